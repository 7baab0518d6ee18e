"""The coordinator's machine: certificates, proxy, SuperLink."""
