"""The admin: the tasks and what one may do about them; jobs, decisions and daemons to read."""

from linod.admin.history import DaemonAdmin, DecisionAdmin
from linod.admin.jobs import JobAdmin
from linod.admin.tasks import BackgroundTaskAdmin

__all__ = ["BackgroundTaskAdmin", "DaemonAdmin", "DecisionAdmin", "JobAdmin"]
