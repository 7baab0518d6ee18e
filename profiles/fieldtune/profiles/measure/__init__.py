"""Measuring a machine into a device profile."""
