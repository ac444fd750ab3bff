"""Procedures that behave in all the ways that a terminal may see."""

import asyncio
import logging
import threading

from linod import BaseRequest, background_task

#: Seconds after which a body that should have been stopped gives up by itself.
TOO_LONG = 60


@background_task
def hello(ar: BaseRequest) -> None:
    """Say hello."""
    ar.info("Hello \x1b[31m%s", "wörld")
    logging.getLogger("elsewhere").warning("heard as well")
    for number in range(1, 5):
        ar.progress(number, 4, "greetings")
    ar.info("Good bye")


@background_task
def broken(ar: BaseRequest) -> None:
    """Fail."""
    raise ValueError("no such thing")


@background_task
def polite(ar: BaseRequest) -> None:
    """Wait until somebody says stop."""
    ar.info("begun")
    while not ar.cancellation.is_set():
        threading.Event().wait(0.01)
    ar.check_cancelled()


@background_task
def stubborn(ar: BaseRequest) -> None:
    """Wait and listen to nobody."""
    ar.info("begun")
    threading.Event().wait(TOO_LONG)


@background_task
async def awaiting(ar: BaseRequest) -> None:
    """Wait in an event loop."""
    ar.info("begun")
    await asyncio.sleep(TOO_LONG)
