"""Texts that make a service of the daemon: ``--supervisor`` and ``--systemd``.

Paths are those of the process that prints them; the user is the web server's.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from linod.conf import config

#: The user that Debian's web servers run as.
USER = "www-data"
#: Seconds after which systemd takes a silent event loop for hung: no body should hold it that long.
WATCHDOG = 60
#: Seconds from the daemon's own limit (``GRACE``) until the supervisor kills.
MARGIN = 10


@dataclass(frozen=True)
class Deployment:
    """How the daemon of a site is started on this machine.

    :param command: what follows the interpreter: ``manage.py linod``, or ``-m django linod ...``.
    :param environment: the virtual environment's folder; None: the interpreter has none.
    :param grace: seconds that the daemon takes for its end at most.
    """

    site: str
    folder: Path
    python: Path
    command: tuple[str, ...]
    environment: Path | None
    grace: float

    @property
    def service(self) -> str:
        """The site's name as a service may be called."""
        return "linod_" + re.sub(r"[^A-Za-z0-9_-]", "_", self.site)

    @property
    def patience(self) -> int:
        """Whole seconds from the signal to stop until the process is killed."""
        return math.ceil(self.grace) + MARGIN

    @property
    def script(self) -> Path:
        """Where ``linod.sh`` belongs."""
        return self.folder / "linod.sh"


def this_deployment() -> Deployment:
    """The deployment of the running process, as far as it can tell."""
    site, grace, settings_module = config().SITE, config().GRACE, str(settings.SETTINGS_MODULE)
    program = Path(sys.argv[0]).absolute()
    command: tuple[str, ...]
    if program.name == "manage.py":
        folder, command = program.parent, (program.name, "linod")
    else:
        folder, command = Path.cwd(), ("-m", "django", "linod")
    if not (program.name == "manage.py" and _names(program, settings_module)):
        command = (*command, f"--settings={settings_module}")
    in_environment = sys.prefix != sys.base_prefix
    environment = Path(sys.prefix) if in_environment else None
    return Deployment(
        site, folder, Path(os.path.abspath(sys.executable)), command, environment, grace
    )


def _names(program: Path, settings_module: str) -> bool:
    """Whether manage.py itself says which settings it uses, and they are these."""
    text = program.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(rf"""["']{re.escape(settings_module)}["']""", text))


def supervisor(deployment: Deployment) -> str:
    """The script and the configuration for Supervisor, each under the name of its file."""
    conf = f"/etc/supervisor/conf.d/{deployment.service}.conf"
    return (
        f"# File {deployment.script} (make it executable: chmod +x)\n\n"
        f"{linod_sh(deployment)}\n"
        f"# File {conf} (then: sudo supervisorctl update)\n\n"
        f"{supervisor_conf(deployment)}"
    )


def linod_sh(deployment: Deployment) -> str:
    """The shell script. ``exec``: the signal to stop must reach Python, and not a shell."""
    quoted = shlex.quote
    python, lines = quoted(str(deployment.python)), []
    if deployment.environment is not None:
        python = "python"
        lines = [f". {quoted(str(deployment.environment / 'bin' / 'activate'))}"]
    return "\n".join(
        [
            "#!/bin/bash",
            "set -e  # exit on error",
            f"cd {quoted(str(deployment.folder))}",
            *lines,
            f"exec {python} {shlex.join(deployment.command)}",
            "",
        ]
    )


def supervisor_conf(deployment: Deployment) -> str:
    """Supervisor's configuration of the service; in it, "%" begins a variable.

    A refused start is tried again for more than an hour: the database may come up later.
    """
    log = f"/var/log/supervisor/{deployment.service}.log"
    script = shlex.quote(str(deployment.script)).replace("%", "%%")
    return f"""\
[program:{deployment.service}]
command={script}
user={USER}
autostart=true
autorestart=true
startretries=100
stopsignal=TERM
stopasgroup=true
killasgroup=true
stopwaitsecs={deployment.patience}
stdout_logfile={log}
redirect_stderr=true
"""


def systemd(deployment: Deployment) -> str:
    """The unit file. A refused start is tried again: the database may come up later.

    The daemon tells systemd when it serves and that it lives (:mod:`linod.notify`).
    """
    words = [str(deployment.python), *deployment.command]
    folder = str(deployment.folder).replace("%", "%%")
    return f"""\
# File /etc/systemd/system/{deployment.service}.service (then: sudo systemctl enable --now {
        deployment.service
    })

[Unit]
Description=linod, the background tasks of {deployment.site.replace("%", "%%")}
After=network.target postgresql.service mariadb.service

[Service]
Type=notify
WatchdogSec={WATCHDOG}
User={USER}
WorkingDirectory={folder}
ExecStart={" ".join(map(_systemd_word, words))}
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={deployment.patience}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def _systemd_word(word: str) -> str:
    """A word of ExecStart: "%" and "$" begin variables, blanks and quotes must be quoted."""
    word = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    if re.search(r"[\s\"']", word):
        return '"' + word.replace('"', '\\"') + '"'
    return word
