"""`manage.py drill NAME`: a fault on purpose against the running stack; passes, or says what failed."""

import json
import logging
import math
import os
import shlex
import signal
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from ops.rehearsal.stack_lock import RunningError, StackLock
from ops.rollout.drills import (
    crash,
    database,
    duplicate_signal,
    emergency_stop,
    redis_outage,
    reorg,
    restore,
    rpc_trouble,
)
from ops.rollout.drills.compose import ComposeParts
from ops.rollout.drills.embedded import EmbeddedParts
from ops.rollout.drills.faults import FAULTS
from ops.rollout.drills.health import Health
from ops.rollout.drills.parts import Parts
from ops.rollout.drills.report import EXIT_CODES, CannotRun, Failed, NotInjected, Report
from ops.rollout.drills.silences import Silences
from ops.rollout.drills.stage import Stage, Timing
from ops.rollout.drills.surfaces import SURFACES

ALL = "all"
SECONDS = 60.0
MOST_SECONDS = 3600.0


def some_of(known: tuple[str, ...], *alone: str) -> Callable[[str], list[str]]:
    """Words with commas between them, each one known, or `all`, or one that stands alone."""

    def read(text: str) -> list[str]:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if words == [ALL]:
            return list(known)
        if len(words) == 1 and words[0] in alone:
            return words
        if not words or set(words) - set(known):
            raise ArgumentTypeError(f"one or more of {', '.join(known)}, with commas, or {ALL}")
        return words

    return read


def seconds(least: float) -> Callable[[str], float]:
    """A time of at most MOST_SECONDS."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= MOST_SECONDS:
            raise ArgumentTypeError(f"must be from {least:g} to {MOST_SECONDS:g}, not {text!r}")
        return value

    return read


def counts(text: str) -> list[int]:
    """Whole numbers from 1 on, with commas between them."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ArgumentTypeError("whole numbers from 1 on, with commas")
    return [int(word) for word in words]


class Command(BaseCommand):
    help = (
        "Harm the running stack on purpose, watch, undo it, and judge. Exit code 0 passed, 1 failed (also where the "
        "fault could not be brought about), 2 could not run. Each run leaves a report in var/drills/."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        drills = parser.add_subparsers(dest="name", required=True, metavar="NAME")
        redis = drills.add_parser("redis-outage", help="Redis fails: DRY at once; it is back: so is the mode")
        faults = tuple(FAULTS)
        redis.add_argument(
            "--fault", type=some_of(faults), default=["pause"], help=f"{', '.join(faults)}; all"
        )
        stop = drills.add_parser("emergency-stop", help="every way to stop, with slots in flight")
        ways, under = tuple(SURFACES), (emergency_stop.NO_FAULT, *faults)
        stop.add_argument("--through", type=some_of(ways), default=list(ways), help=f"{', '.join(ways)}; all")
        stop.add_argument(
            "--redis",
            type=some_of(under, emergency_stop.EACH),
            default=[emergency_stop.NO_FAULT],
            help=f"what happens to Redis under the stop: {', '.join(under)}; all; each: another under each surface",
        )
        drills.add_parser("rpc-trouble", help="the node is slow, refuses, loses answers, and mines nothing")
        drills.add_parser("duplicate-signal", help="the same signal twice, and 50 times at once")
        drills.add_parser("crash", help="SIGKILL of worker, webhook and beat under load")
        drills.add_parser("reorg", help="blocks with our transactions leave the chain")
        ended = drills.add_parser("database", help="PostgreSQL is restarted, killed, and away for a while")
        ended.add_argument(
            "--fault",
            type=some_of(database.FAULTS),
            default=list(database.FAULTS),
            help=f"{', '.join(database.FAULTS)}; all, which is the default",
        )
        back = drills.add_parser("restore", help="a backup is restored while the chain has moved on")
        back.add_argument(
            "--since",
            type=counts,
            default=list(restore.COUNTS),
            help="how many executions the backup does not know, a round for each; default 1,8",
        )
        for drill in drills.choices.values():
            self._add_shared(drill)

    def _add_shared(self, drill: CommandParser) -> None:
        add = drill.add_argument
        add("--seconds", type=seconds(0.1), default=SECONDS, help="how long a fault lasts; default 60")
        add("--every-s", type=seconds(0.01), default=0.5, help="a signal each so many seconds; default 0.5")
        add(
            "--margin-s",
            type=seconds(0),
            default=0.5,
            help="what measuring may add to the promised 1 s; default 0.5",
        )
        add("--symbol", default="ETH-USD", help="what is opened, and closed at the end; default ETH-USD")
        add("--keep-positions", action="store_true", help="leave open what the drill opened")
        add("--source", default="drill", help="a source that may trade for the trader; default drill")
        add("--trader", type=int, default=123, metavar="TG_USER_ID", help="whom to trade for; default 123")
        add(
            "--var",
            type=Path,
            default=Path("var"),
            help="the stack's folder, and where reports go; default var",
        )
        add("--url", default="", help="the webhook; default WEBHOOK_URL, else http://localhost:8090")
        add("--compose", default="", metavar="COMMAND", help="a compose stack, such as 'docker compose'")
        add("--yes-on-chain", type=int, metavar="ID", help="drill in DRY on another chain than 31337")
        add("--json", action="store_true", help="the report as one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        told = ("seconds", "fault", "through", "redis", "since")
        given = {key: options[key] for key in told if options.get(key)}
        given = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in given.items()}
        folder = options["var"].absolute()
        say = (lambda _: None) if options["json"] else self._say
        if not folder.is_dir():
            raise CommandError(f"there is no stack in {folder}", returncode=2)
        report = Report(options["name"], given, say)
        # The lines are the drill's own; what the verbs it calls log is in the audit log, too.
        logging.getLogger().setLevel(logging.WARNING)
        try:
            with ending_in_order(), ExitStack() as undo:
                self._run(report, undo, folder, options)
        except CannotRun as error:
            report.refuse(str(error))
        except NotInjected as error:
            report.check("the fault was brought about", False, error)
        except (Failed, DatabaseError) as error:
            report.check("the drill went on to its end", False, f"{type(error).__name__}: {error}".strip())
        except KeyboardInterrupt:
            report.check("the drill went on to its end", False, "interrupted; what it had harmed is undone")
        self._end(report, folder, as_json=options["json"])

    def _run(self, report: Report, undo: ExitStack, folder: Path, options: dict[str, Any]) -> None:
        lock = StackLock(folder / "drill.lock", "drills")
        try:
            lock.acquire()
        except RunningError as error:
            raise CannotRun(str(error)) from error
        undo.callback(lock.release)
        stage = arrange(report, undo, folder, options)
        stage.require(options["yes_on_chain"])
        silences = Silences(settings.ENVIRONMENT.alertmanager_url, report)
        undo.callback(silences.end)  # after everything else was undone
        silences.begin()
        match options["name"]:
            case "redis-outage":
                redis_outage.run(stage, options["fault"])
            case "emergency-stop":
                emergency_stop.run(stage, options["through"], options["redis"])
            case "rpc-trouble":
                rpc_trouble.run(stage, folder)
            case "reorg":
                reorg.run(stage)
            case "database":
                database.run(stage, options["fault"])
            case "duplicate-signal":
                duplicate_signal.run(stage)
            case "restore":
                restore.run(stage, folder, options["since"])
            case _:
                crash.run(stage)

    def _end(self, report: Report, folder: Path, *, as_json: bool) -> None:
        try:
            paths = report.write(folder / "drills")
        except OSError as error:
            raise CommandError(f"no report in {folder / 'drills'}: {error}", returncode=2) from None
        if as_json:
            self.stdout.write(json.dumps(report.as_json() | {"files": [str(path) for path in paths]}))
        else:
            self._say(f"{report.drill}: {report.verdict.value}; {paths[0]}")
        if code := EXIT_CODES[report.verdict]:
            raise SystemExit(code)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def arrange(report: Report, undo: ExitStack, folder: Path, options: dict[str, Any]) -> Stage:
    """The stage over the parts that the options name; touches nothing yet."""
    environment = settings.ENVIRONMENT
    parts: Parts
    if options["compose"]:
        parts = ComposeParts(shlex.split(options["compose"]))
        force_dry_path = environment.force_dry_path
    else:
        parts = EmbeddedParts(folder, environment.redis_url.get_secret_value())
        # As `make run` tells its processes.
        force_dry_path = Path(os.environ.get("FORCE_DRY_PATH") or folder / "FORCE_DRY")
    url = options["url"] or os.environ.get("WEBHOOK_URL") or "http://localhost:8090"
    return Stage(
        report=report,
        parts=parts,
        health=Health(url.rstrip("/")),
        timing=Timing(options["seconds"], options["every_s"], options["margin_s"]),
        undo=undo,
        force_dry_path=force_dry_path,
        source=options["source"],
        tg_user_id=options["trader"],
        symbol=options["symbol"],
        keep_positions=options["keep_positions"],
    )


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end a drill so that its faults are undone.

    Ctrl-C, too, where the drill was begun in the background of a shell, which has its commands ignore it.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)
