"""What both sites share: settings, addresses, and the loader of the demo data."""
