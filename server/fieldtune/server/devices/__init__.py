"""Real devices as a fleet."""
