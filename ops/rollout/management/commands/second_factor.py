"""`manage.py second_factor enrol|confirm|remove NAME`: one-time codes for who may loosen something."""

import json
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused
from execution_app.gate import second_factor

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Enrol an authenticator app. Its secret is shown once; it counts after a first code was confirmed."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, text in (
            ("enrol", "make a secret and show it once"),
            ("confirm", "the first code of the new device"),
            ("remove", "for a lost device; needs the shell of the machine"),
        ):
            part = verbs.add_parser(verb, help=text)
            part.add_argument("name", help="a name of the admin site")
            part.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        verbs.choices["confirm"].add_argument("code")

    def handle(self, *_args: Any, **options: Any) -> None:
        verbs = {"enrol": self._enrol, "confirm": self._confirm, "remove": self._remove}
        try:
            with audit.acting(audit.operator()):
                facts = verbs[options["verb"]](options)
        except Refused as error:
            raise CommandError(str(error)) from None
        log.info("second factor", verb=options["verb"], name=options["name"])
        if options["json"]:
            self.stdout.write(json.dumps({"name": options["name"], **facts}))
            return
        for key, value in facts.items():
            self.stdout.write(f"{key}: {value}")

    def _enrol(self, options: dict[str, Any]) -> dict[str, Any]:
        name = options["name"]
        device = second_factor.enrol(name)
        return {"otpauth_url": device.config_url, "next": f"manage.py second_factor confirm {name} CODE"}

    def _confirm(self, options: dict[str, Any]) -> dict[str, Any]:
        second_factor.confirm(options["name"], options["code"])
        return {"confirmed": True}

    def _remove(self, options: dict[str, Any]) -> dict[str, Any]:
        second_factor.remove(options["name"])
        return {"removed": True}
