"""What tests of the engine need: procedures for one test, rows, and a daemon in a thread."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.test import override_settings
from django.utils import timezone

from linod import clock
from linod.daemon import Daemon
from linod.history import Job
from linod.models import BackgroundTask
from linod.procedures import Procedure, Procedures, declare
from tests.waiting import DEADLINE, wait_until


@contextmanager
def only_these_procedures() -> Iterator[dict[str, Procedure]]:
    """An empty registry for one test; what was declared before comes back."""
    former = dict(Procedures.registry)
    Procedures.registry.clear()
    try:
        yield Procedures.registry
    finally:
        Procedures.registry.clear()
        Procedures.registry.update(former)


@contextmanager
def empty_site(**values: Any) -> Iterator[None]:
    """A site for daemons of one test, without procedures and tasks.

    :param values: more of its ``LINOD``.
    """
    # Not pytest's tmp_path: a socket's path must be short.
    with (
        tempfile.TemporaryDirectory(prefix="linod") as folder,
        only_these_procedures(),
        override_settings(LINOD={"RUN_DIR": folder, "SITE": "tests", "GRACE": 5.0, **values}),
    ):
        BackgroundTask.objects.all().delete()
        yield


def make_task(func: Callable[..., Any], name: str = "", **values: Any) -> BackgroundTask:
    """Declare ``func`` and give it a row that runs on request only, unless ``values`` say more."""
    func.__qualname__ = f"{func.__qualname__}:{name or func.__name__}"
    procedure = declare(func, name or func.__name__)
    return BackgroundTask.objects.create(procedure=procedure, **values)


def make_due(task: BackgroundTask, ago: float = 0.0, **values: Any) -> datetime:
    """Let a task's rule begin ``ago`` seconds before now, and wait for that instant; returns it."""
    instant = (clock.db_now() - timedelta(seconds=ago)).replace(microsecond=0)
    local = timezone.localtime(instant)
    BackgroundTask.objects.filter(pk=task.pk).update(
        start_date=local.date(), start_time=local.time(), next_run_at=instant, **values
    )
    return instant


def ended_jobs(count: int = 1, **filters: Any) -> list[Job]:
    """The jobs that have ended, oldest first, once there are ``count`` of them."""
    jobs = Job.objects.ended().filter(**filters).order_by("id")
    wait_until(lambda: jobs.count() >= count, f"{count} jobs end")
    return list(jobs)


class DaemonThread:
    """A daemon in a thread of the test's process; its exit code when it has ended."""

    def __init__(self, *, once: bool = False, companions: Sequence[Any] = ()) -> None:
        self.once = once
        self.companions = companions
        self.code: int | None = None
        self.error: BaseException | None = None
        self.daemon: Daemon | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def main() -> int:
            self.daemon = Daemon(once=self.once, companions=self.companions)
            self.loop = asyncio.get_running_loop()
            return await self.daemon.run()

        try:
            self.code = asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits for it
            self.error = error
        finally:
            connections.close_all()

    def start(self) -> DaemonThread:
        """Start and wait until it claims."""
        self._thread.start()
        wait_until(
            lambda: hasattr(self.daemon, "heart") or self.error is not None, "the daemon comes up"
        )
        return self

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return not self._thread.is_alive()

    def stop(self, deadline: float = DEADLINE) -> int:
        """Ask it to stop; returns its exit code."""
        assert self.daemon is not None
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.daemon.stop)
        return self.join(deadline)

    def join(self, deadline: float = DEADLINE) -> int:
        """Wait until it has ended; returns its exit code."""
        self._thread.join(deadline)
        assert not self._thread.is_alive(), "the daemon does not end"
        if self.error is not None:
            raise self.error
        assert self.code is not None
        return self.code


@contextmanager
def running_daemon(count: int = 1) -> Iterator[list[DaemonThread]]:
    """So many daemons, stopped at the end; each must end with exit code 0."""
    daemons = [DaemonThread().start() for _ in range(count)]
    try:
        yield daemons
    finally:
        codes = [daemon.stop() for daemon in daemons]
    assert codes == [0] * count
