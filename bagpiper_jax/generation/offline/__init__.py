"""Generation for files: one request as it is answered, or many of them, to a folder."""
