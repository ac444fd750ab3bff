"""The site ``team``: four background procedures."""

from common.settings import *  # noqa: F403 - all that both sites share
from common.settings import COMMON_APPS, databases

DATABASES = databases("team")
INSTALLED_APPS = [*COMMON_APPS, "notify", "inbox"]
