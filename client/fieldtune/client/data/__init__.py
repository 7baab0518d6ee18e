"""Reading a client's data."""
