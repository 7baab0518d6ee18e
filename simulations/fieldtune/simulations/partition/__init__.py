"""Dealing samples out to simulated clients."""
