"""The tests of linod."""
