"""An office: calendars with reminders, summaries, data checks and a published handbook."""
