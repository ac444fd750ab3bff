"""An exhaustive small model of the protocol, run through linod's own code on SQLite."""
