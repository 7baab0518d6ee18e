"""Predicting the cost of a workload on a device type."""
