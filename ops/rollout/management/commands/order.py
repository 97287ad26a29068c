"""`manage.py order list|take-back|change`: opens that rest at the venue until their price comes."""

import json
import uuid
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.bells import ring
from execution_app.book import orders
from execution_app.engine import resting
from execution_app.errors import Refused
from execution_app.models import TxIntent
from execution_app.tasks import submit
from ops.rollout.operator import above_zero, account


class Command(BaseCommand):
    help = (
        "Show the orders that rest at the venue, each of which may fill by its price alone, also under a stop; or take "
        "one back, or give it other terms: whichever is first at the venue, that or the fill, decides. Nothing is taken "
        "back or changed under a stop."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="all of them, the oldest first")
        take_back = verbs.add_parser("take-back", help="have the venue give its collateral back")
        take_back.add_argument("key", help="the intent_key of the open")
        take_back.add_argument("--reason", required=True, help="why; written into the audit log")
        take_back.add_argument("--by", default=account(), help="who")
        change = verbs.add_parser(
            "change", help="give it another price, slippage or levels; what is left out stays"
        )
        change.add_argument("key", help="the intent_key of the open")
        change.add_argument("--limit-price", type=above_zero, help="USD at which it fills")
        change.add_argument(
            "--slippage-pct", type=above_zero, help="how far from that the fill may be, in percent"
        )
        for level in ("--take-profit", "--stop-loss"):
            change.add_argument(level, type=_level, help="USD, or `none`, which takes it away")
        change.add_argument("--reason", required=True, help="why; written into the audit log")
        change.add_argument("--by", default=account(), help="who")
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
        takes_back = options["verb"] == "take-back"
        key = f"admin:{'take-back' if takes_back else 'change'}:{uuid.uuid4().hex[:12]}"
        who = {"key": key, "by": options["by"], "reason": options["reason"]}
        try:
            if takes_back:
                asked = resting.take_back(options["key"], **who)
            else:
                asked = resting.change(options["key"], _terms(options), **who)
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        if asked.wallet_id is not None:
            ring(submit, asked.wallet_id)
        return [{"asked": asked.intent_key, "takes_back" if takes_back else "changes": options["key"]}]


def _level(text: str) -> Decimal:
    return resting.NONE if text == "none" else above_zero(text)


def _terms(options: dict[str, Any]) -> dict[str, Decimal | None]:
    return {
        "limit_price": options["limit_price"],
        "new_slippage_pct": options["slippage_pct"],
        "take_profit": options["take_profit"],
        "stop_loss": options["stop_loss"],
    }


def _row(order: TxIntent) -> dict[str, Any]:
    terms = orders.terms(order)
    return {
        "intent_key": order.intent_key,
        "trader": str(order.trader),
        "symbol": order.symbol,
        "side": "LONG" if order.is_long else "SHORT",
        "order_type": order.order_type,
        "limit_price": format(terms.limit_price, "f"),
        "slippage_pct": format(terms.slippage_pct, "f"),
        "take_profit": "none" if terms.take_profit is None else format(terms.take_profit, "f"),
        "stop_loss": "none" if terms.stop_loss is None else format(terms.stop_loss, "f"),
        "collateral_usdc": format(order.collateral_usdc or 0, "f"),
        "leverage_x": format(order.leverage_x or 0, "f"),
    }
