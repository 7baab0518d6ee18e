"""What work costs on a device type."""
