"""A handbook, published as plain HTML files."""
