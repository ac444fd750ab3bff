"""What linod costs and how fast it is, measured beside the limits of the same machine and run."""
