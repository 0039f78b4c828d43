"""Porting: a series of patches tried on another kernel, patch by patch."""
