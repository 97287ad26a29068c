"""One line per fact: `intent=7 nonce=41 attempt=2 move=signed>sending`."""

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, TextIO

import structlog

from execution_app.scrubbing import Scrubber


def configure(level: str, form: str, stream: TextIO, secrets: Iterable[str] = ()) -> None:
    """Send structlog's and the standard library's records through one handler, without `secrets` in any form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_pid,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _scrubbed(renderer, Scrubber(secrets)),
            ],
        )
    )
    # No line says where in the code it was written, and to find that out for each took as long as to write it.
    logging._srcfile = None  # noqa: SLF001  (as the library's documentation has it)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in (
        "urllib3",
        "celery.beat",
        "django_celery_beat",
        "kombu",
        "celery.worker.strategy",
        "celery.app.trace",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _scrubbed(renderer: Any, scrub: Callable[[str], str]) -> Callable[[Any, str, Any], str]:
    """The whole line, since a secret may stand in a traceback or in another library's words."""

    def render(logger: Any, method: str, event: Any) -> str:
        return scrub(str(renderer(logger, method, event)))

    return render


def add_pid(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Several processes of one component share a log."""
    event["pid"] = os.getpid()
    return event
