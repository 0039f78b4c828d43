"""Bisection: which commit, or which patch of a series, made a kernel bad."""
