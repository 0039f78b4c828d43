"""Reports, made from stored results only."""
