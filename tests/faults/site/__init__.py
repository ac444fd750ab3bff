"""The site that the daemons of the fault tests serve."""
