"""Living on a board: systemd, checks and status."""
