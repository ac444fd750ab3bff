"""Notifications to users, sent by mail as often as each user wants."""
