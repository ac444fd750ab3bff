"""A small team: notifications by mail, and one inbox."""
