"""Device types: their figures, and the catalogue."""
