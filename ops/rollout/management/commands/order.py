"""`manage.py order list|take-back`: opens that rest at the venue until their price comes."""

import json
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.bells import ring
from execution_app.engine import resting
from execution_app.errors import Refused
from execution_app.models import TxIntent
from execution_app.tasks import submit
from ops.rollout.operator import account


class Command(BaseCommand):
    help = (
        "Show the orders that rest at the venue, each of which may fill by its price alone, also under a stop; or take "
        "one back: whichever is first at the venue, that or the fill, decides. Nothing is taken back under a stop."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="all of them, the oldest first")
        take_back = verbs.add_parser("take-back", help="have the venue give its collateral back")
        take_back.add_argument("key", help="the intent_key of the open")
        take_back.add_argument("--reason", required=True, help="why; written into the audit log")
        take_back.add_argument("--by", default=account(), help="who")
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        rows = self._rows(options)
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            self.stdout.write("  ".join(f"{name}={value}" for name, value in row.items()))
        if not rows:
            self.stdout.write("nothing rests at the venue")

    def _rows(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        if options["verb"] == "list":
            return [_row(order) for order in resting.all_live()]
        key = f"admin:take-back:{uuid.uuid4().hex[:12]}"
        try:
            cancel = resting.take_back(options["key"], key=key, by=options["by"], reason=options["reason"])
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        if cancel.wallet_id is not None:
            ring(submit, cancel.wallet_id)
        return [{"asked": cancel.intent_key, "takes_back": options["key"]}]


def _row(order: TxIntent) -> dict[str, Any]:
    return {
        "intent_key": order.intent_key,
        "trader": str(order.trader),
        "symbol": order.symbol,
        "side": "LONG" if order.is_long else "SHORT",
        "order_type": order.order_type,
        "limit_price": format(order.limit_price or 0, "f"),
        "collateral_usdc": format(order.collateral_usdc or 0, "f"),
        "leverage_x": format(order.leverage_x or 0, "f"),
    }
