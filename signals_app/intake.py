"""A valid signal is stored once; its repeats find it, other content under its id is refused."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from django.db import Error as DatabaseFault
from django.db import connection, models, transaction

from execution_app.bells import ring
from execution_app.errors import Refused, Retryable
from execution_app.models import TxIntent
from signals_app import meters, rates
from signals_app.deadline import database_deadline
from signals_app.models import Signal
from signals_app.payloads import Payload
from signals_app.strict_json import canonical
from signals_app.tasks import decide

log = structlog.get_logger(__name__)

UNDECIDED_STATE = "received"

_COLUMNS = tuple(field.name for field in dataclasses.fields(Payload))
# A secret still stands for its source; the default one for every source that never had its own.
_STANDS = """
CASE WHEN %(secret_id)s::bigint IS NULL
     THEN NOT EXISTS (SELECT FROM source_secrets WHERE source = %(source)s)
     ELSE EXISTS (SELECT FROM source_secrets WHERE id = %(secret_id)s AND source = %(source)s AND active) END
"""
# What a token is taken for: not for a repeat that is stored already.
_NEW = (
    f"{_STANDS} AND NOT EXISTS (SELECT FROM signals WHERE source = %(source)s AND signal_id = %(signal_id)s)"
)
# Not the ORM: its insert that ignores conflicts does not tell who inserted.
_INSERT = """
INSERT INTO signals (source, signal_id, tg_user_id, symbol, side, collateral_usdc, leverage_x, slippage_pct,
                     reduce_usdc, reduce_pct, take_profit, stop_loss, trailing_stop_pct, break_even_pct, time_stop_s,
                     order_type, limit_price, changes, deposit_usdc, withdraw_usdc, max_lag_s, ts, meta, body_sha256, decision, reasons, webhook_id, secret_id)
VALUES (%(source)s, %(signal_id)s, %(tg_user_id)s, %(symbol)s, %(side)s, %(collateral_usdc)s, %(leverage_x)s,
        %(slippage_pct)s, %(reduce_usdc)s, %(reduce_pct)s, %(take_profit)s, %(stop_loss)s,
        %(trailing_stop_pct)s, %(break_even_pct)s, %(time_stop_s)s, %(order_type)s, %(limit_price)s, %(changes)s, %(deposit_usdc)s, %(withdraw_usdc)s, %(max_lag_s)s, %(ts)s, %(meta)s::jsonb, %(body_sha256)s, '', '[]'::jsonb,
        %(webhook_id)s, %(secret_id)s)
ON CONFLICT DO NOTHING
RETURNING id
"""


class Outcome(StrEnum):
    QUEUED = "queued"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the box holds now; `state` is the intent's, or where the signal is without one."""

    outcome: Outcome
    state: str


class Throttled(Retryable):
    """The source has sent too much; nothing was stored."""

    def __init__(self, wait_s: int) -> None:
        super().__init__("this source sends faster than it may")
        self.wait_s = wait_s


class NotTheirs(Refused):
    """The secret that verified does not stand for the source, or no longer."""


class Unavailable(Retryable):
    """The database did not confirm; the same signal may be sent again, stored or not."""


def store(payload: Payload, *, secret_id: int | None = None, webhook_id: str = "") -> Stored:
    """Take a token, store the signal in one statement, committed by itself, and ring for its decision after that.

    `secret_id` names the source's own secret that verified, None is the default one.
    Without a transaction block there is nothing to roll back, for which a lost connection would be
    opened again while the sender waits.

    Raises NotTheirs, Throttled, and Unavailable, within about 4 s, when the database does not confirm.
    """
    try:
        with database_deadline():
            label = meters.SOURCE_LABELS.label(payload.source)
            stored = _insert(payload, secret_id, webhook_id) or _not_inserted(payload, secret_id, webhook_id)
    except DatabaseFault as error:
        code = getattr(error.__cause__, "sqlstate", None)
        log.warning(
            "signal not stored", intent_key=payload.intent_key, error=type(error).__name__, sqlstate=code
        )
        raise Unavailable("the database is not available") from error
    if stored.outcome is Outcome.QUEUED:
        meters.SIGNALS_RECEIVED.labels(label).inc()
    elif stored.outcome is Outcome.DUPLICATE:
        meters.SIGNALS_DEDUPLICATED.labels(label).inc()
    log.info("signal", intent_key=payload.intent_key, outcome=stored.outcome, state=stored.state)
    return stored


def _insert(payload: Payload, secret_id: int | None, webhook_id: str) -> Stored | None:
    """Take a token and insert, waiting for a concurrent copy to commit or roll back; None when that was not to be."""
    values: dict[str, Any] = {name: getattr(payload, name) for name in _COLUMNS}
    values |= {"meta": canonical(payload.meta), "body_sha256": payload.sha256}
    values |= {"secret_id": secret_id, "webhook_id": webhook_id}
    if not rates.spend(payload, _NEW, values):
        return None
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        row = cursor.fetchone()
    if row is None:
        return None
    transaction.on_commit(partial(ring, decide, row[0]))
    return Stored(Outcome.QUEUED, UNDECIDED_STATE)


def _not_inserted(payload: Payload, secret_id: int | None, webhook_id: str) -> Stored:
    """Why not: a repeat, another content, another's secret, or too fast. A repeat is never too fast."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_STANDS}", {"source": payload.source, "secret_id": secret_id})
        row = cursor.fetchone()
    if not (row and row[0]):
        raise NotTheirs("the signature is under a secret that does not stand for this source")
    stored = _find(payload, webhook_id)
    if stored is None:
        raise Throttled(rates.wait_s(payload))
    return stored


def _find(payload: Payload, webhook_id: str) -> Stored | None:
    """What is stored under the signal's id or the webhook's; an id of either kind stands for one content."""
    same_id = models.Q(signal_id=payload.signal_id)
    if webhook_id:
        same_id |= models.Q(webhook_id=webhook_id)
    held = list(Signal.objects.only("body_sha256", "decision").filter(same_id, source=payload.source))
    if not held:
        return None
    same = all(signal.body_sha256 == payload.sha256 for signal in held)
    state = TxIntent.objects.filter(intent_key=payload.intent_key).values_list("state", flat=True).first()
    refused = "rejected" if held[0].decision == "rejected" else UNDECIDED_STATE
    return Stored(Outcome.DUPLICATE if same else Outcome.CONFLICT, state or refused)
