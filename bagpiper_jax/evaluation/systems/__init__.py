"""Systems under test: a run of ours, an endpoint, recorded replies, or captions that a text model reads."""
