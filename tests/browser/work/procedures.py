"""Procedures to watch: one that takes its time, one that fails, one that speaks at all levels."""

import threading

from linod import BaseRequest, background_task


@background_task()
def count_slowly(ar: BaseRequest) -> None:
    """Count aloud; ``steps`` and ``pause`` (seconds) are its arguments."""
    steps, pause = ar.arguments.get("steps", 10), ar.arguments.get("pause", 0.3)
    clock = threading.Event()
    for step in range(steps):
        ar.progress(step, steps, "sheep")
        ar.info("Sheep number %d jumped over the fence.", step + 1)
        clock.wait(pause)
    ar.progress(steps, steps, "sheep")


@background_task()
def stumble(ar: BaseRequest) -> None:
    """Fail, with a traceback."""
    ar.info("It begins well.")
    raise ValueError("The bridge is out")


@background_task(log_level="DEBUG")
def speak_up(ar: BaseRequest) -> None:
    """Say something at every level."""
    ar.debug("12 letters in the queue")
    ar.info("Sending letters")
    ar.warning("One address is unknown")
    ar.error("The printer is out of paper")
    ar.critical("Nobody refills the printer")
