"""`manage.py margin deposit|withdraw`: collateral of an open position."""

import json
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.bells import ring
from execution_app.engine import margin_changes
from execution_app.errors import Refused
from execution_app.tasks import submit
from ops.rollout.operator import above_zero, account


class Command(BaseCommand):
    help = (
        "Put USDC of the trader into an open position, which counts against the caps, or take some out; its notional stays, so its "
        "leverage falls or rises. Not under a stop or reduce-only, and of a LIVE position not in DRY."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, words in (("deposit", "put it in"), ("withdraw", "take it out, to the trader")):
            part = verbs.add_parser(verb, help=words)
            part.add_argument("position", type=int, help="the number of the position")
            part.add_argument("usdc", type=above_zero, help="how much, with at most 6 decimals")
            part.add_argument("--reason", required=True, help="why; written into the audit log")
            part.add_argument("--by", default=account(), help="who")
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        change_usdc = options["usdc"] if options["verb"] == "deposit" else -options["usdc"]
        key = f"admin:margin:{uuid.uuid4().hex[:12]}"
        who = {"key": key, "by": options["by"], "reason": options["reason"]}
        try:
            intent = margin_changes.change(options["position"], change_usdc, **who)
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        if intent.wallet_id is not None:
            ring(submit, intent.wallet_id)
        told = {
            "asked": intent.intent_key,
            "position": options["position"],
            "change_usdc": f"{change_usdc:f}",
        }
        self.stdout.write(
            json.dumps(told)
            if options["json"]
            else "  ".join(f"{name}={value}" for name, value in told.items())
        )
