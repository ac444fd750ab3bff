"""Procedures of the test site."""
