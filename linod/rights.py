"""Who may see what; the live page, its websocket and the admin ask the same questions."""

from __future__ import annotations

from typing import Any

#: What somebody must be allowed to see who opens the live page.
SEE = ("linod.view_backgroundtask", "linod.view_job")
#: What somebody must be allowed beside that who reads what jobs say.
READ_LOGS = "linod.view_log"


def may_see(user: Any) -> bool:
    """Whether the user may know which tasks and jobs there are, and how they are."""
    return bool(user is not None and user.is_active and user.has_perms(SEE))


def may_read_logs(user: Any) -> bool:
    """Whether the user may read logs, and what comes from them: errors, reasons."""
    return bool(user.has_perm(READ_LOGS))
