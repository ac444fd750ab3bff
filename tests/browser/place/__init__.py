"""The site that the browser visits."""
