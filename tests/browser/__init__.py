"""The faces as people meet them: a site, its daemon and a real browser."""
