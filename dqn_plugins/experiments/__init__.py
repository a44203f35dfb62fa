"""What the command line and comparisons share: algorithms by name, configuration, one run."""
