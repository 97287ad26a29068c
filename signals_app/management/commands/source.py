"""`manage.py source`: secrets, grants and limits of the sources of signals."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused
from signals_app import sources
from signals_app.models import SourceGrant

Answer = dict[str, Any]

_SIGNS_HELP = (
    "It signs X-Signature by its characters as they are, and webhook-signature by the bytes that its base64 "
    "after whsec_ spells (without whsec_: by its characters)."
)


class Command(BaseCommand):
    help = "Sources of signals: their secrets, for whom they may trade, how fast they may send."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        for verb, (_, text) in _VERBS.items():
            sub = verbs.add_parser(verb, help=text, description=text)
            sub.add_argument("name", metavar="NAME", nargs="?" if verb == "list" else None, help="the source")
            sub.add_argument("--json", action="store_true", help="answer in JSON")
            sub.add_argument("--reason", default="", help="why, for the audit log")
            _add_options(verb, sub)

    def handle(self, *_args: Any, **options: Any) -> None:
        verb, _ = _VERBS[options["verb"]]
        try:
            with audit.acting(audit.operator(options["reason"])):
                answer = verb(options)
        except Refused as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(answer, default=_spell))
        else:
            self.stdout.write("\n".join(_lines(answer)))


def _add_options(verb: str, sub: argparse.ArgumentParser) -> None:
    if verb in ("add", "rotate"):
        sub.add_argument(
            "--secret-stdin", action="store_true", help="take the secret from standard input, make none"
        )
        sub.epilog = _SIGNS_HELP
    if verb == "retire":
        sub.add_argument("secret_id", metavar="SECRET_ID", type=int, help="as list and rotate show it")
    if verb in ("grant", "revoke"):
        sub.add_argument("tg_user_id", metavar="TG_USER_ID", type=int, help="the trader")
    if verb == "limit":
        for title in sources.LIMITS:
            sub.add_argument(f"--{title.replace('_', '-')}", type=int, metavar="N")


def _add(options: Answer) -> Answer:
    return _issued(options, sources.add(options["name"], _given(options)))


def _rotate(options: Answer) -> Answer:
    return _issued(options, sources.rotate(options["name"], _given(options)))


def _given(options: Answer) -> str | None:
    return sys.stdin.readline().strip("\r\n") if options["secret_stdin"] else None


def _issued(options: Answer, issued: sources.Issued) -> Answer:
    # A secret that came from outside is known there, and need not be in a terminal's history.
    shown = {} if options["secret_stdin"] else {"secret": issued.secret}
    return {
        "source": options["name"],
        "secret_id": issued.secret_id,
        **shown,
        "still_valid": list(issued.others_active),
        "note": "The secret is shown this once. " + _SIGNS_HELP,
    }


def _retire(options: Answer) -> Answer:
    left = sources.retire(options["name"], options["secret_id"])
    note = (
        {} if left else {"note": "The source has no secret left and is shut out until it gets one by rotate."}
    )
    return {"source": options["name"], "retired": options["secret_id"], "active_secrets": left, **note}


def _list(options: Answer) -> Answer:
    names = [options["name"]] if options["name"] else sources.names()
    return {"sources": [_state(name) for name in names]}


def _state(name: str) -> Answer:
    secrets = [asdict(state) for state in sources.secret_states(name)]
    grants = SourceGrant.objects.filter(source=name).order_by("tg_user_id")
    return {
        "source": name,
        "signs_with": "its own secrets" if secrets else "the default secret",
        "secrets": secrets,
        "trades_for": list(grants.values_list("tg_user_id", flat=True)),
        "limits": sources.limits(name),
    }


def _grant(options: Answer) -> Answer:
    new = sources.grant(options["name"], options["tg_user_id"])
    return {"source": options["name"], "trades_for": options["tg_user_id"], "changed": new}


def _revoke(options: Answer) -> Answer:
    sources.revoke(options["name"], options["tg_user_id"])
    return {"source": options["name"], "no_longer_trades_for": options["tg_user_id"]}


def _limit(options: Answer) -> Answer:
    wanted = {title: options[title] for title in sources.LIMITS if options[title] is not None}
    return {"source": options["name"], "limits": sources.limit(options["name"], **wanted)}


_VERBS: dict[str, tuple[Callable[[Answer], Answer], str]] = {
    "add": (_add, "Give a source its first own secret; the default one serves it no longer."),
    "rotate": (_rotate, "Give a source a further secret; the older ones stay valid until retired."),
    "retire": (_retire, "End one secret at once and for ever."),
    "list": (_list, "Show sources: secrets without their text, grants, limits."),
    "grant": (_grant, "Let a source trade for a trader."),
    "revoke": (_revoke, "End such a permission."),
    "limit": (_limit, "Set how much a source may send at once and per minute; closes have their own limits."),
}


def _spell(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat().replace("+00:00", "Z")


def _lines(value: Answer, indent: str = "") -> list[str]:
    """Nested names and values, one to a line."""
    lines: list[str] = []
    for name, item in value.items():
        parts = [item] if isinstance(item, dict) else item if isinstance(item, list) else []
        if parts and all(isinstance(part, dict) for part in parts):
            lines.append(f"{indent}{name}:")
            lines += [line for part in parts for line in _lines(part, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {_plain(item)}")
    return lines


def _plain(item: object) -> str:
    if isinstance(item, datetime):
        return _spell(item)
    if isinstance(item, list):
        return ", ".join(map(str, item)) or "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return "never" if item is None else str(item)
