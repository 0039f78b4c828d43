"""Profiles: where a guest's CPU time goes while it does something."""
