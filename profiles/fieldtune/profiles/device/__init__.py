"""Device profiles and the catalogue."""
