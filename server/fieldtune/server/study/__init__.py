"""The study file and what it means."""
