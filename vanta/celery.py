"""The Celery app. Messages are doorbells: they carry row ids and may be lost, doubled or late.

Each setting that departs from the default has its reason in docs/adr/0003-celery.md.
"""

import os
import signal
import warnings
from typing import Any

from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import (
    beat_init,
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
)

from vanta.broker import Amqp

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
# A worker would import every page of the panel to look at it, at each start, and keep it.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
# Celery warns of root because of pickle; messages here are JSON only, and `make run` may be run by root.
warnings.filterwarnings("ignore", category=SecurityWarning, module="celery.platforms")

VISIBILITY_TIMEOUT_S = 300
BEAT_ENDS_WITHIN_S = 2
# Whoever waits for bells on a connection that is half-open gets neither bell nor error. Kombu looks at this interval, and leaves it
# once an answer is a second and this late: within 9 s. By its own 25 s a worker may be deaf for 51 s.
HEALTH_CHECK_S = 4
REDIS_TIMEOUTS = {"socket_timeout": 5, "socket_connect_timeout": 2, "retry_on_timeout": False}


def _redis_url() -> str:
    from django.conf import settings

    return str(settings.REDIS_URL)


app = Celery("vanta", amqp=Amqp)
app.conf.update(
    beat_scheduler="vanta.beat:Scheduler",
    broker_url=_redis_url(),
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_prefetch_multiplier=1,
    task_publish_retry=False,
    task_time_limit=60,
    task_soft_time_limit=45,
    task_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        **REDIS_TIMEOUTS,
        "health_check_interval": HEALTH_CHECK_S,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 5,
    },
    visibility_timeout=VISIBILITY_TIMEOUT_S,
    result_backend=None,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_max_tasks_per_child=10_000,
    timezone="UTC",
    enable_utc=True,
    task_default_queue="ops",
    task_routes={
        "signals_app.tasks.decide": {"queue": "submit"},
        "signals_app.tasks.sweep_signals": {"queue": "ops"},
        "execution_app.tasks.submit": {"queue": "submit"},
        "execution_app.tasks.track": {"queue": "track"},
        "execution_app.tasks.sweep": {"queue": "ops"},
        "execution_app.tasks.compare_positions": {"queue": "tpsl"},
        "execution_app.tasks.watch_levels": {"queue": "tpsl"},
        # Not beside the watch, which must not wait for it.
        "execution_app.tasks.keep_feed": {"queue": "ops"},
    },
)
app.autodiscover_tasks(["signals_app", "execution_app"])


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Celery would install its own handlers; settings already did."""


@celeryd_init.connect
def _remember_component(sender: str = "", **_: Any) -> None:
    os.environ["VANTA_COMPONENT"] = "tpsl" if sender.startswith("tpsl") else "worker"


# A SystemExit passes Celery's signals, which swallow every other error of a receiver.
@worker_init.connect
@beat_init.connect
def _refuse_other_chains(**_: Any) -> None:
    from vanta import chain_check

    chain_check.refuse_other_chains()


@worker_init.connect
def _refuse_unfit_signers(**_: Any) -> None:
    from vanta import signer_check

    signer_check.refuse_unfit_signer()


@worker_init.connect
def _prepare_pool(**_: Any) -> None:
    # No thread is started here: a child that is forked beside one inherits the locks that it holds just then,
    # and hangs at the first of them. What is imported here is shared with the children.
    from execution_app.gate import beats  # noqa: F401


@worker_process_init.connect
def _watch_in_pool_child(**_: Any) -> None:
    from execution_app.gate import watch

    watch.start(os.environ.get("VANTA_COMPONENT", "worker"), pool_child=True)


@task_prerun.connect
def _begin_work(**_: Any) -> None:
    from execution_app.gate import beats

    beats.begin_work()


@task_postrun.connect
def _end_work(**_: Any) -> None:
    from execution_app.gate import beats

    beats.end_work()


@beat_init.connect
def _end_between_rings(sender: Any, **_: Any) -> None:
    """SIGTERM and SIGINT end beat when it has rung what it is ringing, and in time whatever it waits for."""

    def end(*_: object) -> None:
        # Celery's own handler writes the schedule here and now. In the middle of a query that waits, for ever,
        # for the lock that the query holds; so beat is only told, and its loop writes the schedule. A flag is
        # set by hand since Service.stop() logs, which a handler must not do.
        sender._is_shutdown.set()  # noqa: SLF001
        signal.alarm(
            BEAT_ENDS_WITHIN_S
        )  # nobody takes SIGALRM: it ends the process, which has nothing to lose

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


@beat_init.connect
def _watch_in_beat(**_: Any) -> None:
    from django.db import DatabaseError

    from execution_app import audit
    from execution_app.gate import watch
    from vanta import schedule

    watch.start("beat")
    audit.note_head()
    try:
        schedule.install()
    except DatabaseError as problem:
        # Celery would only log it and go on with whatever schedule is there, or none.
        raise SystemExit(f"beat cannot write its schedule: {type(problem).__name__}") from None
