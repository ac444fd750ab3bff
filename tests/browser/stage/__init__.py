"""The site on which the live page is watched."""
