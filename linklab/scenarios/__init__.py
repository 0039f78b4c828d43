"""Experiments: what to set up, what to time, what to check afterwards."""
