"""`manage.py preflight`: ask every server whether this environment can trade."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from ops.rollout import preflight
from ops.rollout.findings import report


class Command(BaseCommand):
    help = (
        "Check environment, database, migrations, Redis, nodes, venue contracts, pair names and the venue's minimum "
        "against the cap. Changes nothing. Exit code 0: nothing failed; 1: something did."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        environment = settings.ENVIRONMENT
        facts = {
            "deploy_env": environment.deploy_env,
            "chain_id": environment.chain_id,
            "version": settings.VERSION,
        }
        report(self.stdout, preflight.examine(), as_json=options["json"], facts=facts)
