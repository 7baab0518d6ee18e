"""Measuring this machine and writing its device profile."""
