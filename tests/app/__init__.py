"""A small application that uses linod, for the tests."""
