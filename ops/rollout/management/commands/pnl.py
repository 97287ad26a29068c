"""`manage.py pnl`: what each position came to on each UTC day, fees, execution fees and gas among it."""

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.book import full_cost
from execution_app.book.full_cost import Day
from execution_app.models import Position
from execution_app.states import Mode
from execution_app.venues.costs import FUNDING


class Command(BaseCommand):
    help = (
        "One line a position and UTC day on which something of it was filled: realised and net USDC, what the venue "
        "kept, execution fees and gas in wei. DRY and LIVE are never added up. Changes nothing."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--day", default="", help="that UTC day alone, YYYY-MM-DD (all)")
        parser.add_argument("--position", type=int, help="that position alone")
        parser.add_argument(
            "--mode", choices=[mode.value for mode in Mode], default="", help="that mode alone"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        day = _day(options["day"])
        wanted = Position.objects.exclude(state="void").order_by("id")
        if options["position"] is not None:
            wanted = wanted.filter(pk=options["position"])
        if options["mode"]:
            wanted = wanted.filter(mode=options["mode"])
        if day is not None:
            begun = datetime(day.year, day.month, day.day, tzinfo=UTC)
            within = wanted.filter(
                fills__filled_at__gte=begun, fills__filled_at__lt=begun + timedelta(days=1)
            )
            wanted = wanted.filter(pk__in=within.values("pk"))
        lines = [line for line in full_cost.by_day(wanted) if day in (None, line.day)]
        if options["json"]:
            told = [{**asdict(line), "net_usdc": line.net_usdc} for line in lines]
            self.stdout.write(json.dumps({"days": told, "funding": FUNDING}, default=str))
            return
        for line in lines:
            self.stdout.write(_words(line))
        if lines:
            self.stdout.write(f"funding of DRY: {FUNDING}; of LIVE it is within what the venue kept")
        else:
            self.stdout.write("nothing was filled")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise CommandError(f"--day must be a day, YYYY-MM-DD, not {text!r}", returncode=2) from error


def _words(line: Day) -> str:
    return (
        f"{line.day} {line.mode.value} {line.symbol} position {line.position}: net {line.net_usdc:+f} USDC "
        f"(closes {line.realised_usdc:+f}, open fee {line.open_fee_usdc:f}), the venue kept {line.kept_usdc:f} USDC; "
        f"execution fees {line.execution_fee_wei} wei, gas {line.gas_wei} wei"
    )
