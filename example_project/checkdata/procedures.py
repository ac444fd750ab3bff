"""What ``checkdata`` does in the background."""

from checkdata import checking
from checkdata.models import Problem
from linod import BaseRequest, schedule_daily


@schedule_daily
def checkdata(ar: BaseRequest) -> None:
    """Run all data checkers.

    With the argument ``{"fix": true}`` it also mends what can be mended without thinking.
    """
    report = checking.run(ar, fix=bool(ar.arguments.get("fix")))
    Problem.objects.replace(report.left)
    ar.info(
        "%d %s have been run. Found %d and fixed %d problems.",
        report.checks,
        "check" if report.checks == 1 else "checks",
        report.found,
        report.fixed,
    )
