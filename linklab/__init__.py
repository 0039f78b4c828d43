"""linklab: a test lab for Linux networking."""
