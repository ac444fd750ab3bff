"""Faults injected into a log server and its senders, and a checker of the file.

``python -m tests.faults.logserver [P11|P12]`` runs at full size and prints the figures;
``test_small.py`` runs the same at a small size.
"""
