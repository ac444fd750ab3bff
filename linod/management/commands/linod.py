"""``manage.py linod``: run the daemon, or answer a question about it."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import sys
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import connections

from linod import checks, deployment, forecast, foreground, health, listing, terminal
from linod.conf import config
from linod.daemon import STOPPED, Daemon
from linod.exceptions import LinodError
from linod.reloading import Reloading


class Command(BaseCommand):
    """Runs the site's background tasks until it is stopped."""

    help = "Run a Lino daemon for this site."
    requires_system_checks = ()  # they say more than one line; see handle()

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: Any) -> None:
        nowhere = None if sys.stdout and sys.stderr else open(os.devnull, "w")  # noqa: SIM115
        super().__init__(
            stdout or sys.stdout or nowhere, stderr or sys.stderr or nowhere, **options
        )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """A parser that raises its errors, so that they become one line as all others."""
        parser = super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs)
        parser.called_from_command_line = False
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """One thing at a time; without any of these options the daemon runs."""
        add = parser.add_mutually_exclusive_group().add_argument
        add("-l", "--list", action="store_true", help="Just list the jobs, don't run them.")
        add("--once", action="store_true", help="Run what is due or requested now, then end.")
        add("--run", metavar="NAME", help="Run a procedure's task here and now ('#8': by its id).")
        add("--forecast", metavar="TIME", nargs="?", const="24h", type=forecast.duration,
            help="Tell what is going to run within 90m, 24h (the default), 7d ...")  # fmt: skip
        add("--health", action="store_true", help="Tell whether all is well; exit code 1 if not.")
        add("--supervisor", action="store_true", help="Print linod.sh and Supervisor's settings.")
        add("--systemd", action="store_true", help="Print a unit file for systemd.")
        add("--reload", action="store_true", help="Start again when the code changes.")
        parser.add_argument("--json", action="store_true", help="With --list: for programs.")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command; what stands between here and the answer is one line on stderr."""
        try:
            super().run_from_argv(argv)
        except CommandError as error:
            if "--traceback" in argv:
                raise
            self.stderr.write(f"CommandError: {self._explained(error, argv)}")
            sys.exit(error.returncode)
        except BrokenPipeError:
            sys.exit(1)
        finally:
            terminal.let_go(sys.stdout, sys.stderr)

    def _explained(self, error: CommandError, argv: list[str]) -> str:
        message = str(error).removeprefix("Error: ")
        options = list(self.create_parser(argv[0], argv[1])._option_string_actions)
        wrong = next((word for word in argv[2:] if word.partition("=")[0] in message), "")
        near = difflib.get_close_matches(wrong.partition("=")[0], options, n=1)
        hint = near and message.startswith("unrecognized") and wrong.startswith("-")
        return f"{message}; did you mean {near[0]}?" if hint else message

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse what cannot work, then do the one thing that was asked for."""
        if options["json"] and not options["list"]:
            raise CommandError("--json goes with --list")
        serious = [found for found in checks.check_settings() if found.is_serious()]
        if serious:
            raise CommandError(". ".join(filter(None, (serious[0].msg, serious[0].hint))))
        for name in ("supervisor", "systemd"):
            if options[name]:
                self.stdout.write(getattr(deployment, name)(deployment.this_deployment()))
                return
        using = config().DATABASE
        refused = health.refusal(using)
        if refused:
            raise CommandError(refused)
        try:
            code = self._answer(using, options)
        except LinodError as error:
            raise CommandError(str(error)) from error
        if code:
            sys.exit(code)

    def _answer(self, using: str, options: dict[str, Any]) -> int:
        if options["list"]:
            self.stdout.write(listing.listing(using, for_programs=options["json"]))
            if absent := listing.without_task(using):
                self.stderr.write(f"No task yet, the daemon makes it: {', '.join(absent)}")
        elif options["forecast"] is not None:
            self.stdout.write(forecast.forecast(using, options["forecast"]))
        elif options["health"]:
            findings = list(health.findings(using))
            self.stdout.write("\n".join(map(str, findings)))
            return int(not all(finding.is_well for finding in findings))
        elif options["run"] is not None:
            task = foreground.find_task(using, options["run"])
            return int(not foreground.run_task(task, _stream(self.stdout), _stream(self.stderr)))
        else:
            self.check()
            return self._serve(once=options["once"], reload=options["reload"])
        return STOPPED

    def _serve(self, *, once: bool, reload: bool) -> int:
        connections.close_all()
        daemon, code = Daemon(once=once), STOPPED
        with terminal.shown(terminal.Unheard(_stream(self.stderr))):
            # An interrupt that comes before the daemon hears it finds nothing to stop.
            with contextlib.suppress(KeyboardInterrupt):
                code = Reloading(daemon).run() if reload else asyncio.run(daemon.run())
            code = code or int(once and daemon.failures > 0)
            if self._called_from_command_line:  # type: ignore[attr-defined]
                terminal.leave(code)
        return code


def _stream(wrapper: OutputWrapper) -> TextIO:
    return cast(TextIO, wrapper._out)
