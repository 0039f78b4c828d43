"""Guests: booted or resumed, heard together, judged when they end early, visited by people."""
