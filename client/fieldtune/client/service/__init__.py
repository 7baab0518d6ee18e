"""The client as a service: systemd unit, checks and status."""
