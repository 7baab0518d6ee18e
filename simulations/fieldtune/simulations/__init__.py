"""Simulation of a fleet on one machine, with the real client and artefacts."""
