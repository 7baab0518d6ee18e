"""What every package shares: errors, estimates, files."""
