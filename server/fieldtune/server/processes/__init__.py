"""Child processes and the messages they exchange with their parent."""
