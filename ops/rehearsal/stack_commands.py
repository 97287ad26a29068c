"""The command line of every process that the stack runs beside its embedded servers."""

import sys
from collections.abc import Mapping
from pathlib import Path

from ops.rehearsal.parts.process import Command
from ops.rehearsal.supervisor import Service

ROOT = Path(__file__).resolve().parents[2]
CELERY = ("-m", "celery", "-A", "vanta")
# Workers have nothing to tell each other, and looking for neighbours costs a second of every start.
ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")
QUEUES = "submit,track,notify,ops,celery"

# name: (arguments to Python, stage of the stop, grace in seconds)
SERVICES: dict[str, tuple[tuple[str, ...], int, float]] = {
    "webhook": (
        (
            *("-m", "granian", "--interface", "wsgi", "vanta.wsgi:application"),
            *("--host", "0.0.0.0", "--port", "{port}", "--workers", "2"),  # noqa: S104 -- as containers do
            *("--respawn-failed-workers", "--no-ws", "--workers-kill-timeout", "5"),
            # A sender that stops in the middle of its body holds one thread.
            *("--blocking-threads", "32"),
        ),
        0,
        8,
    ),
    "beat": (
        (
            *(*CELERY, "beat", "--pidfile="),
            *("--scheduler", "vanta.beat:Scheduler"),
        ),
        0,
        3,
    ),
    "worker": ((*CELERY, "worker", *ALONE, "-n", "worker@%h", "-Q", QUEUES, "--concurrency", "2"), 1, 12),
    "tpsl": ((*CELERY, "worker", *ALONE, "-n", "tpsl@%h", "-Q", "tpsl", "--concurrency", "1"), 1, 12),
    "keeper": (
        (
            *("-m", "ops.rehearsal.keeper", "--rpc", "{rpc}", "--deployment", "{deployment}"),
            *("--gateway-port", "{gateway_port}"),
        ),
        2,
        5,
    ),
}
STAGE_OF_CHAIN = 3
STAGE_OF_STORES = 4


def python(arguments: tuple[str, ...], env: Mapping[str, str]) -> Command:
    return Command((sys.executable, *arguments), cwd=ROOT, env=env)


def service(name: str, env: Mapping[str, str], **places: object) -> Service:
    """One row of the table with its `{places}` filled in."""
    arguments, stage, grace_s = SERVICES[name]
    filled = tuple(argument.format(**places) for argument in arguments)
    return Service(name, lambda: python(filled, env), stage, grace_s)
