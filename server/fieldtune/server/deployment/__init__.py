"""The coordinator's machine: certificates, nginx as proxy, SuperLink."""
