"""Training and measuring on the device."""
