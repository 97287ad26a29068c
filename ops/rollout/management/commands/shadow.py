"""`manage.py shadow`: the gate before a rollout goes further, LIVE fills against what a simulation made of them."""

import argparse
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ops.rollout import shadow_check
from ops.rollout.findings import report
from ops.rollout.shadow_check import Limits

MOST = 36_500


class Command(BaseCommand):
    help = (
        "Compare the LIVE fills of the last days with the estimates that were made of them before they left, by the "
        "estimator of DRY. Changes nothing. Exit code 0: within the limits; 1: not, or too few fills to say."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        usual = Limits()
        for one in fields(Limits):
            value = getattr(usual, one.name)
            parser.add_argument(
                f"--{one.name.replace('_', '-')}",
                type=int if isinstance(value, int) else _exact,
                default=value,
                help=f"the limit ({value})",
            )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        limits = Limits(**{one.name: options[one.name] for one in fields(Limits)})
        for name, value in (("--days", limits.days), ("--fills", limits.fills)):
            if not 1 <= value <= MOST:
                raise CommandError(f"{name} must be from 1 to {MOST:,}, not {value}", returncode=2)
        report(
            self.stdout, shadow_check.examine(limits), as_json=options["json"], facts={"days": limits.days}
        )


def _exact(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from error
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text!r}")
    return value
