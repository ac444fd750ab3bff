#!/usr/bin/env python
"""Run a command on one of the example's sites: team, or the one that ``--settings`` names."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "team.settings")
    execute_from_command_line(sys.argv)
