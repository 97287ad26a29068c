"""The one function that writes the audit log, and who is acting at the moment.

An entry is written in the transaction of what it tells, after everything else:
its lock orders all entries and is held until the commit, so whoever took it
first and then waited for a row could wait for ever (docs/adr/0012).
"""

import json
import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from pydantic import SecretStr

from execution_app import people
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.models import AuditEntry

log = structlog.get_logger(__name__)

PATIENCE = "1000ms"  # for the lock, where the act does not wait for its entry
LIMITS = {"actor": 150, "address": 150, "subject": 200, "reason": 400}
WITHHELD = "[withheld]"
_TELLING = re.compile(r"(secret|password|token|private|credential|sealed)(?!_id$|s_active$)", re.IGNORECASE)
# Only what an entry says; the rest is the database's, and nobody else may name it.
_INSERT = """
INSERT INTO audit_log (actor, origin, address, action, subject, reason, before, after)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody acting: by which way, from where, and why."""

    actor: str
    origin: AuditOrigin
    address: str
    reason: str = ""


_acting: ContextVar[Who | None] = ContextVar("vanta_acting", default=None)


@contextmanager
def acting(who: Who) -> Iterator[None]:
    """Entries that are written meanwhile, in this thread, are this one's."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def current() -> Who:
    """Whoever is acting; without anybody the machine decides by itself."""
    return _acting.get() or Who("vanta", AuditOrigin.AUTOMATIC, here())


def operator(reason: str = "") -> Who:
    """The person at the command line, by the name of their account on this machine."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user need not have a name
        name = f"uid {uid}"
    return Who(name, AuditOrigin.COMMAND, here(), reason)


def here() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def record(
    action: AuditAction,
    subject: str,
    *,
    reason: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    who: Who | None = None,
) -> None:
    """Append one entry; it stays if and only if the caller's transaction does.

    Long words are cut to their columns, secrets are withheld, and people are
    told by their pseudonyms. Raises RuntimeError outside a transaction.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry is written in the transaction of what it tells")
    who = who or current()
    words = {"actor": who.actor, "address": who.address, "subject": subject, "reason": reason or who.reason}
    secrets = _secrets()
    told = {name: people.veiled(_clean(word, secrets))[: LIMITS[name]] for name, word in words.items()}
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            [
                *(told["actor"], who.origin.value, told["address"]),
                *(action.value, told["subject"], told["reason"]),
                *(_as_json(state, secrets) for state in (before, after)),
            ],
        )


def try_record(action: AuditAction, subject: str, **told: Any) -> bool:
    """As `record`, for what must hold without its entry, too: a stop, a halt. Says whether it was written.

    Waits at most a second for the log's lock, and spoils nothing of the caller's
    transaction. What is not written is in the process's log, loudly.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            (usual,) = cursor.fetchone()
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
            record(action, subject, **told)
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [usual])
    except DatabaseError as problem:
        reason = _clean(str(told.get("reason", "")), _secrets())[: LIMITS["reason"]]
        log.exception(
            "audit entry missing",
            action=action,
            subject=subject,
            reason=reason,
            problem=type(problem).__name__,
        )
        return False
    return True


def by(actor: str, origin: AuditOrigin) -> Who:
    """An actor that the caller knows better, from where the present one acts."""
    return replace(current(), actor=actor, origin=origin, reason="")


def head() -> tuple[int, str]:
    """The newest entry's number and hash; (0, "") while there is none."""
    newest = AuditEntry.objects.order_by("-seq").values_list("seq", "hash").first()
    return newest or (0, "")


def note_head() -> None:
    """Write the head into the process's log, where whoever cuts off the table's end cannot reach it."""
    try:
        seq, found = head()
    except DatabaseError as problem:
        log.warning("audit head not noted", problem=type(problem).__name__)
        return
    log.info("audit head", head=f"{seq}:{found}")


def _as_json(state: Mapping[str, Any] | None, secrets: tuple[str, ...]) -> str | None:
    if state is None:
        return None
    return json.dumps(people.veiled_state(_withheld(dict(state), secrets)), ensure_ascii=False)


def _withheld(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {
            _clean(str(name), secrets): WITHHELD if _TELLING.search(str(name)) else _withheld(item, secrets)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_withheld(item, secrets) for item in value]
    return value if value is None or isinstance(value, bool | int) else _clean(str(value), secrets)


def _clean(text: str, secrets: tuple[str, ...]) -> str:
    """What PostgreSQL can store, without a secret that somebody pasted into it."""
    for secret in secrets:
        text = text.replace(secret, WITHHELD)
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def _secrets() -> tuple[str, ...]:
    values = (getattr(settings.ENVIRONMENT, name) for name in type(settings.ENVIRONMENT).model_fields)
    found = (value.get_secret_value() for value in values if isinstance(value, SecretStr))
    return tuple(secret for secret in found if secret)
