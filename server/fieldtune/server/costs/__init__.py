"""Predicted costs, limits, budget, and calibration by what devices report."""
