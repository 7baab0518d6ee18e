"""Predicted costs, limits, budgets, and calibration with what devices report."""
