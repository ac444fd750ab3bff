"""Faults injected into real daemons on servers of their own, and a checker of what came of it."""
