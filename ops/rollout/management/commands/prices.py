"""`manage.py prices`: the history of a symbol's prices as CSV, for a spreadsheet or for `make replay`."""

import csv
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app.book import ticks
from execution_app.engine.waiting import database_now
from execution_app.venues import onchain

COLUMNS = ("at", "symbol", "price", "core", "pro")


class Command(BaseCommand):
    help = (
        "Write the prices of a symbol as CSV, a line every 5 s, times in UTC: the chain's price and, beside it, those of "
        "the feed's two sources. What retention has archived is in its files. Changes nothing. Exit code 0; 2 for a "
        "symbol or times that are none."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("symbol", help="such as BTC-USD")
        parser.add_argument(
            "--since", default="", help="2026-01-31 or 2026-01-31T12:00:00Z (a day before the end)"
        )
        parser.add_argument("--until", default="", help="likewise, itself not among them (now)")

    def handle(self, *_args: Any, **options: Any) -> None:
        symbol = options["symbol"].upper()
        if symbol not in onchain.PAIRS:
            raise CommandError(f"{symbol!r} is none of {', '.join(sorted(onchain.PAIRS))}", returncode=2)
        until = _moment("--until", options["until"]) or database_now()
        since = _moment("--since", options["since"]) or until - timedelta(days=1)
        if since >= until:
            raise CommandError(f"nothing is between {since} and {until}", returncode=2)
        sheet = csv.writer(self.stdout, lineterminator="\n")
        sheet.writerow(COLUMNS)
        for row in ticks.between(symbol, since, until):
            told = (
                "" if price is None else f"{price.normalize():f}" for price in (row.price, row.core, row.pro)
            )
            sheet.writerow([row.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), row.symbol, *told])


def _moment(name: str, text: str) -> datetime | None:
    """A day begins at midnight, and a time without a zone is UTC."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{name} must be a day or a time, not {text!r}", returncode=2) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
