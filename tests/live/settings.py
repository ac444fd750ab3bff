"""The tests' site with channels, for a server in a process of its own.

=================== ================================================================
variable            meaning
=================== ================================================================
LINOD_TEST_SITE     LINOD["SITE"]
LINOD_TEST_REDIS    the address of the channel layer
LINOD_TEST_CAPACITY messages that a channel holds
=================== ================================================================
"""

import os

from tests.settings import *  # noqa: F403 - the tests' site

LINOD = {"SITE": os.environ["LINOD_TEST_SITE"], "USE_CHANNELS": True}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [os.environ["LINOD_TEST_REDIS"]],
            "capacity": int(os.environ.get("LINOD_TEST_CAPACITY", "100")),
        },
    }
}
