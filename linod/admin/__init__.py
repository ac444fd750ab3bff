"""A plain admin: the tasks and what one may do about them; jobs, decisions and daemons to read."""

from linod.admin.history import DaemonAdmin, DecisionAdmin, JobAdmin
from linod.admin.tasks import BackgroundTaskAdmin

__all__ = ["BackgroundTaskAdmin", "DaemonAdmin", "DecisionAdmin", "JobAdmin"]
