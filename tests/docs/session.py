"""Run the examples of one page; started in a process of its own, with a site's settings.

Exit code 1, and what differs on the standard output, when an example does not hold.
"""

import doctest
import sys

import django

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(path: str) -> doctest.TestResults:
    return doctest.testfile(path, module_relative=False, optionflags=FLAGS, encoding="utf-8")


if __name__ == "__main__":
    django.setup()
    sys.exit(run(sys.argv[1]).failed > 0)
