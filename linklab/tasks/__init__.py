"""The Invoke tasks: options in, one call into `linklab/commands`, text out. No logic here."""
