"""A simulated fleet on this machine."""
