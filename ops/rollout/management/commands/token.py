"""`manage.py token create|list|revoke`: who may read traces over HTTP."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused
from signals_app import tokens
from signals_app.tokens import TokenState


class Command(BaseCommand):
    help = (
        "Tokens that read traces (GET /signals/SOURCE/SIGNAL_ID) and can do nothing else. "
        "Exit code 1 where a name was used before or is not known."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="a new token, shown this once; only its hash is kept")
        create.add_argument("name", help="whose it is; a name stands for one token for ever")
        create.add_argument("--days", type=int, metavar="N", help="it ends by itself; without, never")
        verbs.add_parser("list", help="every token there ever was, without its text")
        verbs.add_parser("revoke", help="end a token at once and for ever").add_argument("name")
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        verb = {"create": self._create, "list": self._list, "revoke": self._revoke}[options["verb"]]
        try:
            with audit.acting(audit.operator()):
                verb(options)
        except Refused as refusal:
            raise CommandError(str(refusal)) from None

    def _create(self, options: dict[str, Any]) -> None:
        issued = tokens.create(options["name"], options["days"])
        row = issued.row
        if options["json"]:
            self._write_json(
                {"name": row.name, "scope": row.scope, "expires_at": row.expires_at, "token": issued.token}
            )
            return
        self.stdout.write(f"{row.name} may read traces {_until(row.expires_at)}")
        self.stdout.write(f"token, shown only now: {issued.token}")

    def _list(self, options: dict[str, Any]) -> None:
        states = tokens.states()
        if options["json"]:
            self._write_json([asdict(state) for state in states])
            return
        for state in states:
            self.stdout.write(_line(state))

    def _revoke(self, options: dict[str, Any]) -> None:
        changed = tokens.revoke(options["name"])
        if options["json"]:
            self._write_json({"name": options["name"], "state": "revoked", "changed": changed})
            return
        self.stdout.write(f"{options['name']} {'is revoked' if changed else 'had been revoked already'}")

    def _write_json(self, answer: object) -> None:
        self.stdout.write(json.dumps(answer, default=_spell))


def _line(state: TokenState) -> str:
    used = f"last used {_spell(state.last_used_at)}" if state.last_used_at else "never used"
    ended_at = {"revoked": state.revoked_at, "expired": state.expires_at}.get(state.state)
    when = f"at {_spell(ended_at)}" if ended_at else _until(state.expires_at)
    return f"{state.name}  {state.scope}  {state.state} {when}  {used}"


def _until(expires_at: datetime | None) -> str:
    return f"until {_spell(expires_at)}" if expires_at else "until revoked"


def _spell(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat(timespec="seconds").replace("+00:00", "Z")
