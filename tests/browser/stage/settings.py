"""The example's site ``tour`` under a strict policy, whose daemons are missed soon.

A daemon that has not shown itself for ``LEASE`` seconds is told to be gone.
``LINOD_BROWSER_CHANNELS`` names a Redis: then channels are used.
"""

import os

from common.settings import LINOD as COMMON_LINOD
from tour.settings import *  # noqa: F403 - the example's site, and a little more
from tour.settings import INSTALLED_APPS as TOUR_APPS
from tour.settings import MIDDLEWARE as TOUR_MIDDLEWARE
from tour.settings import VAR_DIR

MIDDLEWARE = [*TOUR_MIDDLEWARE, "tests.browser.place.policy.content_security_policy"]
LINOD = COMMON_LINOD | {"SITE": "stage", "RUN_DIR": VAR_DIR / "run", "LEASE": 6, "GRACE": 2}

REDIS = os.environ.get("LINOD_BROWSER_CHANNELS", "")
if REDIS:  # then Daphne serves
    INSTALLED_APPS = ["daphne", *TOUR_APPS]
    ASGI_APPLICATION = "linod.routing.application"
    LINOD |= {"USE_CHANNELS": True}
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS]},
        }
    }
