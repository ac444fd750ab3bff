"""For tests: a daemon's decisions in the test's own thread and transaction, by a clock that obeys.

::

    from linod.testing import clock, run_due_jobs

    with clock.freeze("2026-11-22 19:59"):
        task = BackgroundTask.objects.create(procedure="send_summary", every_unit="daily")
        assert run_due_jobs() == []
        with clock.travel("1 minute"):
            (job,) = run_due_jobs()
    assert job.state == "succeeded"

Jobs are claimed, run, recorded, retried and disabled by the code that the daemon runs; only its
loop, its threads and its heartbeat are absent.
"""

from linod.testing import clock
from linod.testing.runs import run_all, run_due_jobs, simulate

__all__ = ["clock", "run_all", "run_due_jobs", "simulate"]
