"""Child processes and the frames they exchange."""
