"""From cached records to packed batches."""
