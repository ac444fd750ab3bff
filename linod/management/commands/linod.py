"""``manage.py linod``: run the daemon, or answer a question about it."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import faulthandler
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import Error, connections
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from linod import (
    answers,
    checks,
    deployment,
    forecast,
    foreground,
    health,
    listing,
    memory,
    terminal,
)
from linod.conf import config
from linod.daemon import STOPPED, Daemon
from linod.exceptions import LinodError
from linod.logserver import LogServer
from linod.reloading import Reloading


class Command(BaseCommand):
    """Runs the site's background tasks until it is stopped."""

    help = cast(str, gettext_lazy("Run a Lino daemon for this site."))
    requires_system_checks = ()  # they say more than one line; see handle()

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: Any) -> None:
        out, err = stdout or sys.stdout, stderr or sys.stderr
        super().__init__(out or terminal.Nowhere(), err or terminal.Nowhere(), **options)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """A parser that raises its errors, so that they become one line as all others."""
        parser = super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs)
        parser.description = str(self.help)
        parser.called_from_command_line = False
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """One thing at a time; without any of these options the daemon runs."""
        add = parser.add_mutually_exclusive_group().add_argument
        add("-l", "--list", action="store_true", help=_("Just list the jobs, don't run them."))
        name, moment = _("NAME"), _("TIME")
        add("--once", action="store_true", help=_("Run what is due or requested now, then end."))
        add("--run", metavar=name,
            help=_("Run a procedure's task here and now ('#8': by its id)."))  # fmt: skip
        add("--why", metavar=name, help=_("Tell what became of a task's due instants, and why."))
        add("--forecast", metavar=moment, nargs="?", const="24h", type=forecast.duration,
            help=_("Tell what is going to run within 90m, 24h (the default), 7d ..."))  # fmt: skip
        add("--health", action="store_true",
            help=_("Tell whether all is well; exit code 1 if not."))  # fmt: skip
        add("--supervisor", action="store_true",
            help=_("Print linod.sh and Supervisor's settings."))  # fmt: skip
        add("--systemd", action="store_true", help=_("Print a unit file for systemd."))
        add("--reload", action="store_true", help=_("Start again when the code changes."))
        parser.add_argument("--at", metavar=moment, help=_("With --why: about that moment only."))
        add("--log-server-only", action="store_true",
            help=_("Write the site's log file, run no jobs."))  # fmt: skip
        parser.add_argument("--no-log-server", action="store_true",
            help=_("Run the daemon without the log server."))  # fmt: skip
        parser.add_argument("--json", action="store_true", help=_("With --list: for programs."))

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command; what stands between here and the answer is one line on stderr."""
        terminal.occupy_closed_streams()
        terminal.escape_unsayable(sys.stdout)
        try:
            super().run_from_argv(argv)
        except CommandError as error:
            if "--traceback" in argv:
                raise
            self.stderr.write(f"CommandError: {self._explained(error, argv)}")
            sys.exit(error.returncode)
        except BrokenPipeError:
            sys.exit(1)
        except KeyboardInterrupt:
            # Before anything has begun; what runs hears Ctrl-C by itself.
            sys.exit(128 + signal.SIGINT)
        finally:
            terminal.let_go(sys.stdout, sys.stderr)

    def _explained(self, error: CommandError, argv: list[str]) -> str:
        message = str(error)
        if not message.startswith("Error: "):
            return message
        # What was typed is in it, line ends and all.
        message = terminal.visible(message.removeprefix("Error: "), in_lines=False)
        options = list(self.create_parser(argv[0], argv[1])._option_string_actions)
        wrong = next((word for word in argv[2:] if word.partition("=")[0] in message), "")
        near = difflib.get_close_matches(wrong.partition("=")[0], options, n=1)
        # Two letters are near to anything: "-1h" is no "-h", and "--" no "--at".
        is_hint = near and near[0].startswith("--") and wrong != "--"
        if not (is_hint and message.startswith("unrecognized")):
            return message
        return _("%(message)s; did you mean %(near)s?") % {"message": message, "near": near[0]}

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse what cannot work, then do the one thing that was asked for."""
        _refuse_what_does_not_go_together(options)
        serious = [found for found in checks.check_settings() if found.is_serious()]
        if serious:
            raise CommandError(". ".join(filter(None, (serious[0].msg, serious[0].hint))))
        for name in ("supervisor", "systemd"):
            if options[name]:
                self._say(getattr(deployment, name)(deployment.this_deployment()))
                return
        if options["log_server_only"]:
            self._serve_log()
            return
        using = config().DATABASE
        refused = health.refusal(using)
        if refused:
            raise CommandError(refused)
        try:
            code = self._answer(using, options)
        except LinodError as error:
            raise CommandError(error.said(translation)) from error
        except Error as error:
            # Maybe a defect of linod: --traceback shows where it comes from.
            raise CommandError(health.unusable(using, error)) from error
        if code:
            sys.exit(code)

    def _answer(self, using: str, options: dict[str, Any]) -> int:
        if options["list"]:
            self._say(listing.listing(using, for_programs=options["json"]))
            if absent := listing.without_task(using):
                self.stderr.write(_("No task yet, the daemon makes it: %s") % ", ".join(absent))
            if disabled := listing.disabled(using):
                self.stderr.write(_("Disabled, so not in the list: %s") % ", ".join(disabled))
        elif options["why"] is not None:
            self._say(answers.answers(using, options["why"], options["at"]))
        elif options["forecast"] is not None:
            self._say(forecast.forecast(using, options["forecast"]))
        elif options["health"]:
            findings = list(health.findings(using))
            self._say("\n".join(map(str, findings)))
            return int(not all(finding.is_well for finding in findings))
        elif options["run"] is not None:
            task = foreground.find_task(using, options["run"])
            return int(not foreground.run_task(task, _stream(self.stdout), _stream(self.stderr)))
        else:
            self.check()
            wanted = not (options["no_log_server"] or options["once"])
            log_server = LogServer.from_settings(config()) if wanted else None
            companions = () if options["once"] else _companions()
            daemon = Daemon(once=options["once"], log_server=log_server, companions=companions)
            return self._serve(daemon, once=options["once"], reload=options["reload"])
        return STOPPED

    def _say(self, text: str) -> None:
        """Write an answer; that nobody reads on is no error, that there is no place for it is."""
        try:
            with contextlib.suppress(BrokenPipeError):
                self.stdout.write(text)
                self.stdout.flush()
        except OSError as error:
            message = _("The answer could not be written: %s") % error.strerror
            raise CommandError(message) from error

    def _serve(self, daemon: Daemon, *, once: bool, reload: bool) -> int:
        connections.close_all()
        code = STOPPED
        if self._called_from_command_line:  # type: ignore[attr-defined]
            memory.settle()
        if daemon.notifier.watchdog:
            # Who finds the daemon hung sends SIGABRT: then the log tells where each thread was.
            faulthandler.enable()
        with terminal.shown(terminal.Unheard(_stream(self.stderr))):
            # An interrupt that comes before the daemon hears it finds nothing to stop.
            with contextlib.suppress(KeyboardInterrupt):
                code = Reloading(daemon).run() if reload else asyncio.run(daemon.run())
            code = code or int(once and daemon.failures > 0)
            if self._called_from_command_line:  # type: ignore[attr-defined]
                terminal.leave(code)
        return code

    def _serve_log(self) -> None:
        try:
            log_server = LogServer.from_settings(config())
            if log_server is None:
                raise CommandError(
                    _(
                        "No log server: neither LINOD['LOG_DIR'] nor LOGGING names a folder;"
                        " see linod.loghandler.logging_config"
                    )
                )
            with terminal.shown(terminal.Unheard(_stream(self.stderr))):
                log_server.run()
        except LinodError as error:
            raise CommandError(error.said(translation)) from error


def _refuse_what_does_not_go_together(options: dict[str, Any]) -> None:
    if options["json"] and not options["list"]:
        raise CommandError(_("--json goes with --list"))
    if options["at"] is not None and options["why"] is None:
        raise CommandError(_("--at goes with --why"))
    others = "list forecast health run why supervisor systemd log_server_only".split()
    if options["no_log_server"] and any(options[name] for name in others):
        raise CommandError(_("--no-log-server goes with the daemon"))


def _companions() -> list[Callable[[Daemon], Awaitable[None]]]:
    """What goes on beside the scheduler; channels are imported only where they are used."""
    if not config().USE_CHANNELS:
        return []
    from linod.consumers import accompany

    return [accompany]


def _stream(wrapper: OutputWrapper) -> TextIO:
    return cast(TextIO, wrapper._out)
