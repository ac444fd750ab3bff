"""P10: the channel layer is optional; whatever becomes of it, tasks run and the page gets right."""
