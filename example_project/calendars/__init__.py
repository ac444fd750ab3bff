"""Calendars: entries, the rules that make them, and reminders."""
