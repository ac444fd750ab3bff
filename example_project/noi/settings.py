"""The site ``noi``: eight background procedures, in the order of the apps that declare them."""

from common.settings import *  # noqa: F403 - all that both sites share
from common.settings import COMMON_APPS, databases

DATABASES = databases("noi")
INSTALLED_APPS = [*COMMON_APPS, "calendars", "summaries", "checkdata", "notify", "publisher"]
