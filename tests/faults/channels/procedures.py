"""What runs while the channel layer fails: short jobs that say something each second."""

from typing import Any

from linod import background_task


@background_task()
def tick(ar: Any) -> None:
    """Say a little."""
    for n in range(10):
        ar.info("line %d of a job that has little to do and says so", n)
    ar.progress(1, 1, "done")


@background_task()
def marker(ar: Any) -> None:
    """Only ever enabled and disabled."""
