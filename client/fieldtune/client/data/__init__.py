"""A client's own samples."""
