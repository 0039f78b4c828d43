"""What the Invoke tasks call: options in, text out, one function for each command."""
