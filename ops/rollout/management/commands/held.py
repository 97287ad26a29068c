"""`manage.py held list|reject`: what waits for the mode, for gas or for a person."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.engine import held
from execution_app.errors import Stale
from execution_app.models import TxIntent
from execution_app.states import IntentState
from ops.rollout.operator import account

LIMIT = 1_000


class Command(BaseCommand):
    help = (
        "Show intents that are held, or end one that nobody wants any more. What is held goes on by itself as soon "
        "as it may."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help=f"the oldest {LIMIT}")
        reject = verbs.add_parser("reject", help="end one; it will not be executed")
        reject.add_argument("key", help="its intent_key")
        reject.add_argument("--reason", required=True, help="why; written into the history")
        reject.add_argument("--by", default=account(), help="who")
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["verb"] == "reject":
            try:
                rows = [held.reject(options["key"], by=options["by"], reason=options["reason"])]
            except (TxIntent.DoesNotExist, Stale):
                raise CommandError(f"{options['key']} is not held") from None
        else:
            rows = list(TxIntent.objects.filter(state=IntentState.HELD).order_by("id")[:LIMIT])
        if options["json"]:
            self.stdout.write(json.dumps([self._row(intent) for intent in rows]))
            return
        for intent in rows:
            self.stdout.write(
                f"{intent.intent_key}  {intent.action} {intent.symbol}  {intent.state}: {intent.reason}"
                f"  {intent.reason_detail}  since {intent.accepted_at:%Y-%m-%dT%H:%M:%SZ}"
            )
        if not rows:
            self.stdout.write("nothing is held")

    def _row(self, intent: TxIntent) -> dict[str, Any]:
        return {
            "intent_key": intent.intent_key,
            "action": intent.action,
            "symbol": intent.symbol,
            "state": intent.state,
            "reason": intent.reason,
            "detail": intent.reason_detail,
            "accepted_at": intent.accepted_at.isoformat(),
            "expires_at": intent.expires_at.isoformat() if intent.expires_at else None,
        }
