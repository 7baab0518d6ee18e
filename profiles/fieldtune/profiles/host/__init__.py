"""What the machine at hand tells of itself."""
