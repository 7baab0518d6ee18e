"""What becomes of a trial."""
