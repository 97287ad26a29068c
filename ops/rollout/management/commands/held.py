"""`manage.py held list|approve|reject`: what waits for the mode, for gas or for a person."""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.engine import held
from execution_app.errors import Refused, Retryable, Stale
from execution_app.gate.approval import UNUSED, UNUSED_S
from execution_app.models import TxIntent
from execution_app.states import IntentState
from ops.rollout.operator import account

LIMIT = 1_000


class Command(BaseCommand):
    help = (
        "Show intents that are held, let one close of a live position go although Redis is not well, or end one that "
        "nobody wants any more. What is held goes on by itself as soon as it may."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help=f"the oldest {LIMIT}")
        approve = verbs.add_parser(
            "approve",
            help=f"let one close go LIVE while only Redis' health forbids it; runs out unused after {UNUSED_S} s",
        )
        reject = verbs.add_parser("reject", help="end one; it will not be executed")
        for part in (approve, reject):
            part.add_argument("key", help="its intent_key")
            part.add_argument("--reason", required=True, help="why; written into the history")
            part.add_argument("--by", default=account(), help="who; for approve a name of the admin site")
        approve.add_argument(
            "--code", default="", help="one-time code; not asked on the rehearsal chain of who has none"
        )
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        rows = self._decided(options)
        if options["json"]:
            self.stdout.write(json.dumps([self._row(intent) for intent in rows]))
            return
        for intent in rows:
            self.stdout.write(
                f"{intent.intent_key}  {intent.action} {intent.symbol}  {intent.state}: {intent.reason}"
                f"  {intent.reason_detail}  since {intent.accepted_at:%Y-%m-%dT%H:%M:%SZ}{_approval(intent)}"
            )
        if not rows:
            self.stdout.write("nothing is held")

    def _decided(self, options: dict[str, Any]) -> list[TxIntent]:
        if options["verb"] == "list":
            return list(TxIntent.objects.filter(state=IntentState.HELD).order_by("id")[:LIMIT])
        key, why = options["key"], {"by": options["by"], "reason": options["reason"]}
        try:
            if options["verb"] == "approve":
                return [held.approve(key, code=options["code"], **why)]
            return [held.reject(key, **why)]
        except (TxIntent.DoesNotExist, Stale):
            raise CommandError(f"{key} is not held") from None
        except (Refused, Retryable) as problem:
            raise CommandError(str(problem)) from None

    def _row(self, intent: TxIntent) -> dict[str, Any]:
        return {
            "intent_key": intent.intent_key,
            "action": intent.action,
            "symbol": intent.symbol,
            "state": intent.state,
            "reason": intent.reason,
            "detail": intent.reason_detail,
            "accepted_at": intent.accepted_at.isoformat(),
            "expires_at": _moment(intent.expires_at),
            "approved_by": intent.approved_by,
            "approved_until": _moment(_until(intent)),
        }


def _until(intent: TxIntent) -> datetime | None:
    """When an approval runs out that nothing uses."""
    return intent.approved_at + UNUSED if intent.approved_at else None


def _approval(intent: TxIntent) -> str:
    until = _until(intent)
    return f"  approved by {intent.approved_by} until {until:%Y-%m-%dT%H:%M:%SZ}" if until else ""


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
