"""What is kept about a person: handed out as one file, and forgotten as far as a book of trades can forget.

Forgetting deletes what only serves to talk with somebody and puts their
pseudonym wherever history has their Telegram id, in one transaction. The audit
log has had the pseudonym from the beginning, so its chain stays as it is.
"""

import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any

import structlog
from django.db import OperationalError, transaction
from django.db.models import Q
from psycopg.errors import LockNotAvailable

from execution_app import audit, people
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.errors import Refused, Retryable
from execution_app.models import Archive, ArchivedTable, Cap, Person, Position, Trader, TxIntent
from execution_app.models.people import TELEGRAM_IDS_END
from execution_app.states import CapScope, PositionEnd, PositionState
from ops.rollout.privacy_tables import KEPT, Kept
from signals_app.models import Signal

log = structlog.get_logger(__name__)
BATCH = 2_000
LEAST_REASON = 3


def export(
    tg_user_id: int, into: IO[bytes], *, by: str, reason: str, origin: AuditOrigin = AuditOrigin.COMMAND
) -> dict[str, int]:
    """Write a ZIP of one JSON Lines file a table into `into`; returns the rows of each table that has any.

    Numbers are as stored, times UTC, bytes hexadecimal. Raises Refused where nothing is kept.
    """
    _check(tg_user_id, by, reason)
    counts: dict[str, int] = {}
    with transaction.atomic(), zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for kept in KEPT:
            rows = kept.rows(tg_user_id)
            if not rows.exists():
                continue
            name = kept.table
            with archive.open(f"{name}.jsonl", "w") as file:
                counts[name] = _write(kept, rows.iterator(BATCH), file)
        if not counts:
            raise Refused(f"nothing is kept about telegram {tg_user_id}")
        about = {
            "made_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "tg_user_id": tg_user_id,
            "rows": counts,
            # What senders added to old signals is there alone.
            "archives": archived(tg_user_id),
        }
        archive.writestr("about.json", json.dumps(about, indent=1))
        who = audit.by(by, origin)
        told = {"rows": sum(counts.values())}
        audit.record(
            AuditAction.PERSON_EXPORTED, f"telegram {tg_user_id}", reason=reason, after=told, who=who
        )
    log.warning("a person's data were exported", by=by, rows=sum(counts.values()))
    return counts


def _write(kept: Kept, rows: Any, file: IO[bytes]) -> int:
    count = 0
    for row in rows:
        told = {column: _plain(getattr(row, column)) for column in kept.columns}
        file.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return "0x" + bytes(value).hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if value is None or isinstance(value, bool | int | str | list | dict) else str(value)


def obstacles(tg_user_id: int) -> list[str]:
    """Why somebody cannot be forgotten now; empty where they can."""
    found = []
    # What another trade ended provisionally is open again where a reorg takes that one back.
    stands = Q(state=PositionState.OPEN) | Q(ended_by=PositionEnd.CLOSED_ELSEWHERE, settled_at=None)
    held = Position.objects.filter(stands, trader__tg_user_id=tg_user_id).count()
    if held:
        found.append(f"{held:,} open positions, or ended and not finally yet")
    waiting = TxIntent.objects.filter(tg_user_id=tg_user_id, settled_at=None).count()
    if waiting:
        found.append(f"{waiting:,} intents that are not settled")
    undecided = Signal.objects.filter(tg_user_id=tg_user_id, decided_at=None).count()
    if undecided:
        found.append(f"{undecided:,} signals that are not decided")
    return found


def archived(tg_user_id: int) -> list[str]:
    """Names of the archives that may hold signals of this person, by their id (ops/rollout/leaving.py); the oldest first.

    Told by days and ids, without the files: a signal stays in its table, and its day's archive had it if it had any `meta`.
    """
    days = Archive.objects.raw(
        "SELECT a.* FROM archives a WHERE a.table_name = %s AND EXISTS (SELECT FROM signals s WHERE s.tg_user_id = %s"
        " AND s.id BETWEEN a.first_id AND a.last_id AND (s.received_at AT TIME ZONE 'UTC')::date = a.day)"
        " ORDER BY a.day, a.part",
        [ArchivedTable.SIGNALS.value, tg_user_id],
    )
    return [archive.file for archive in days]


@dataclass(frozen=True)
class Forgotten:
    """`rows` of each table that were changed or deleted, and `archives` that have the id still."""

    rows: dict[str, int]
    archives: list[str]


def pseudonymise(
    tg_user_id: int, *, by: str, reason: str, origin: AuditOrigin = AuditOrigin.COMMAND
) -> Forgotten:
    """Forget whose this person's history is, and say which archives remember it.

    Cannot be taken back. Raises Refused while anything of theirs is open or not settled, and where they are not
    known, Retryable while rows are held by somebody else.
    """
    _check(tg_user_id, by, reason)
    try:
        with transaction.atomic(durable=True):
            done = _forget(tg_user_id, by, reason, origin)
    except OperationalError as problem:
        if isinstance(problem.__cause__, LockNotAvailable):
            raise Retryable("their rows are being worked on; nothing was changed, try again") from None
        raise
    log.warning(
        "a person was pseudonymised", by=by, rows=sum(done.rows.values()), archives=len(done.archives)
    )
    return done


def _forget(tg_user_id: int, by: str, reason: str, origin: AuditOrigin) -> Forgotten:
    people.stand_alone(tg_user_id)
    # Nothing new is decided for them while this row is held, and nothing at all afterwards.
    trader = Trader.objects.select_for_update().filter(tg_user_id=tg_user_id).first()
    known = any(kept.rows(tg_user_id).exists() for kept in KEPT[:-1])
    if not known:
        raise Refused(f"nobody is known as telegram {tg_user_id}")
    standing = obstacles(tg_user_id)
    if standing:
        raise Refused(f"telegram {tg_user_id} still has {', '.join(standing)}; close and settle those first")
    number = people.pseudonym_of(tg_user_id)
    files = archived(tg_user_id)
    counts = {
        "traders": Trader.objects.filter(tg_user_id=tg_user_id).update(
            tg_user_id=number, label="", enabled=False
        ),
        "tx_intents": TxIntent.objects.filter(tg_user_id=tg_user_id).update(tg_user_id=number),
        "signals": Signal.objects.filter(tg_user_id=tg_user_id).update(tg_user_id=number, meta={}),
        "caps": Cap.objects.filter(scope=CapScope.TRADER, scope_value=str(tg_user_id)).update(
            scope_value=str(number)
        ),
    }
    for kept in KEPT:
        if kept.goes and kept.model is not Person:
            counts[kept.table], _ = kept.rows(tg_user_id).delete()
    who = audit.by(by, origin)
    told = {
        "rows": {name: count for name, count in counts.items() if count},
        "trader": trader is not None,
        "archives": files,
    }
    subject = f"telegram {number}"
    audit.record(AuditAction.PERSON_PSEUDONYMISED, subject, reason=people.veiled(reason), after=told, who=who)
    counts["people"], _ = Person.objects.filter(pk=tg_user_id).delete()
    return Forgotten({name: count for name, count in counts.items() if count}, files)


def _check(tg_user_id: int, by: str, reason: str) -> None:
    if not 0 < tg_user_id < TELEGRAM_IDS_END:
        raise Refused("a person's Telegram id is a number above zero, of at most 52 bits")
    if not by.strip() or len(reason.strip()) < LEAST_REASON:
        raise Refused("it takes a name and a reason")
