"""The example's site ``team``, with procedures that one can watch (``tests.browser.work``).

``LINOD_BROWSER_CHANNELS`` names a Redis: then channels are used, and Daphne serves.
"""

import os

from team.settings import *  # noqa: F403 - the example's site, and a little more
from team.settings import INSTALLED_APPS as TEAM_APPS
from team.settings import MIDDLEWARE as TEAM_MIDDLEWARE
from team.settings import VAR_DIR

REDIS = os.environ.get("LINOD_BROWSER_CHANNELS", "")

INSTALLED_APPS = [*(["daphne"] if REDIS else []), *TEAM_APPS, "tests.browser.work"]
# A page that needs an inline script or style, or a foreign address, is caught by the browser.
MIDDLEWARE = [*TEAM_MIDDLEWARE, "tests.browser.place.policy.content_security_policy"]
LINOD = {"SITE": "browser", "RUN_DIR": VAR_DIR / "run", "BACKGROUND_SLEEP_TIME": 1}
if REDIS:
    LINOD["USE_CHANNELS"] = True
    ASGI_APPLICATION = "linod.routing.application"
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS]},
        }
    }
