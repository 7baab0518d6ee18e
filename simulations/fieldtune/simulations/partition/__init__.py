"""Partitioning a data set among simulated clients."""
