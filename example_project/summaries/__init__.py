"""Figures that are kept because they are slow to count."""
