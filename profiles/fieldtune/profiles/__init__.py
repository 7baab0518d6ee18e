"""Device profiles: what a device type can do, what work costs on it, and what it allows."""
