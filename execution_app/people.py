"""Numbers that stand for people wherever a word is kept for ever: in the audit log and in histories.

A number is drawn at random when somebody is first told of. What it means stands
in `people` alone, so that deleting that row is enough to make a chained log
tell of nobody (docs/privacy.md).
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from execution_app.models.people import PSEUDONYMS_BEGIN, TELEGRAM_IDS_END, Person

ID_KEYS = frozenset({"tg_user_id", "telegram", "scope_value"})
WITHOUT = frozenset({"label"})  # what somebody is called has no place in a log that stays
NOT_KEPT = "[not kept]"
_NAMED = re.compile(r"\b(telegram|trader)([ :]+)([1-9][0-9]{0,15})(?![0-9])")
_VEILED = re.compile(r"\b(telegram|trader)([ :]+)([1-9][0-9]{18})(?![0-9])")
# The audit log's own (execution_app/migrations/0011): it orders whoever draws, and no row is waited for behind it.
_AUDIT_LOCK = 1635083380


def pseudonym_of(tg_user_id: int) -> int:
    """The number of this person, drawn now if there is none; an id that Telegram cannot have given stays itself."""
    if not 0 < tg_user_id < TELEGRAM_IDS_END:
        return tg_user_id
    known = _known(tg_user_id)
    if known is not None:
        return known
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_AUDIT_LOCK])
        drawn = PSEUDONYMS_BEGIN + secrets.randbelow(PSEUDONYMS_BEGIN)
        cursor.execute(
            "INSERT INTO people (tg_user_id, pseudonym) VALUES (%s, %s) ON CONFLICT (tg_user_id) DO NOTHING",
            [tg_user_id, drawn],
        )
        found = _known(tg_user_id)
    assert found is not None
    return found


def stand_with(signal_id: int) -> None:
    """Keep whoever sent this signal from being unbound or forgotten until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock_shared(hashtextextended('person:' || tg_user_id, 0))"
            " FROM signals WHERE id = %s",
            [signal_id],
        )


def stand_alone(tg_user_id: int) -> None:
    """Wait for what is being decided for this person; nothing more is until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('person:' || %s, 0))", [str(tg_user_id)]
        )


def _known(tg_user_id: int) -> int | None:
    return Person.objects.filter(pk=tg_user_id).values_list("pseudonym", flat=True).first()


def whose(pseudonyms: set[int]) -> dict[int, int]:
    """Telegram ids by pseudonym, of those that are still known."""
    rows = Person.objects.filter(pseudonym__in=pseudonyms)
    return dict(rows.values_list("pseudonym", "tg_user_id"))


def unveiled(text: str) -> str:
    """The text with each pseudonym of somebody who is still known told by the id: for whoever may know, never to be kept."""
    numbers = {int(said[3]) for said in _VEILED.finditer(text)}
    known = whose(numbers) if numbers else {}
    return _VEILED.sub(lambda said: f"{said[1]}{said[2]}{known.get(int(said[3]), said[3])}", text)


def veiled(text: str) -> str:
    """The text with each `telegram ID` and `trader ID` told by its pseudonym."""
    return _NAMED.sub(lambda said: f"{said[1]}{said[2]}{pseudonym_of(int(said[3]))}", text)


def names_somebody(text: str) -> bool:
    """Whether somebody is told of by their id; whoever keeps the text draws them a number."""
    return _NAMED.search(text) is not None


def veiled_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same for what an entry tells of before and after, whose keys say what a number is."""
    return {name: _veiled_value(name, value) for name, value in state.items()}


def _veiled_value(name: str, value: Any) -> Any:
    if name in WITHOUT and value:
        return NOT_KEPT
    if name in ID_KEYS and isinstance(value, int) and not isinstance(value, bool):
        return pseudonym_of(value)
    if name in ID_KEYS and isinstance(value, str) and value.isascii() and value.isdigit():
        return str(pseudonym_of(int(value)))
    if isinstance(value, Mapping):
        return veiled_state(value)
    if isinstance(value, list | tuple):
        return [_veiled_value(name, item) for item in value]
    return veiled(value) if isinstance(value, str) else value
