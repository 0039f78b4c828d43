"""The lab's own figures: how long what it does takes, and its networks."""
