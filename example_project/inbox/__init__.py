"""Incoming mail, read from a Maildir."""
