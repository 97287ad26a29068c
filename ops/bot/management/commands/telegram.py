"""`manage.py telegram allow|list|revoke|lift`: who may talk to the bot, and lifting what was set there."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit
from execution_app.errors import Refused
from execution_app.gate import control, loosening
from execution_app.states import Origin, RestrictionKind
from ops.bot import people
from ops.bot.models import Role, TelegramUser
from ops.bot.restrictions import holding


class Command(BaseCommand):
    help = (
        "Who may talk to the Telegram bot: nobody who is not listed here. A viewer looks, a trader trades what is "
        "theirs, an operator stops everything. Exit code 1 where it is refused."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        allow = verbs.add_parser("allow", help="let somebody in, or change their role")
        allow.add_argument(
            "tg_user_id", type=int, help="their numeric id, which the bot tells whoever writes to it"
        )
        allow.add_argument("role", choices=[role.value for role in Role])
        allow.add_argument("--account", default="", help="their name on the admin site, for one-time codes")
        allow.add_argument("--label", default="", help="a name for lists")
        revoke = verbs.add_parser("revoke", help="let somebody in no more, at once")
        revoke.add_argument("tg_user_id", type=int)
        verbs.add_parser("list", help="everybody who may, and as what")
        lift = verbs.add_parser(
            "lift", help="lift what was set from Telegram; needs a reason and a second factor"
        )
        lift.add_argument("kind", choices=[RestrictionKind.STOP.value, RestrictionKind.REDUCE_ONLY.value])
        lift.add_argument("--reason", required=True, help="why; written into the history")
        lift.add_argument("--by", required=True, help="a name of the admin site")
        lift.add_argument(
            "--code", default="", help="one-time code; not asked on the rehearsal chain of who has none"
        )
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")

    def handle(self, *_args: Any, **options: Any) -> None:
        verbs = {"allow": self._allow, "revoke": self._revoke, "list": self._list, "lift": self._lift}
        try:
            with audit.acting(audit.operator()):
                facts, lines = verbs[options["verb"]](options)
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(json.dumps(facts) if options["json"] else "\n".join(lines))

    def _allow(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        who, role = options["tg_user_id"], Role(options["role"])
        changed = people.allow(
            who, role, account=options["account"], label=options["label"], by=audit.current().actor
        )
        said = f"{who} is {role.value} now" if changed else f"{who} was {role.value} already"
        return {"tg_user_id": who, "role": role.value, "changed": changed}, [said]

    def _revoke(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        who = options["tg_user_id"]
        changed = people.revoke(who, by=audit.current().actor)
        return {"tg_user_id": who, "changed": changed}, [
            f"{who} may no more" if changed else f"{who} was not allowed"
        ]

    def _list(self, _options: dict[str, Any]) -> tuple[Any, list[str]]:
        rows = [
            {"tg_user_id": row.tg_user_id, "role": row.role, "account": row.account, "label": row.label}
            for row in TelegramUser.objects.order_by("tg_user_id")
        ]
        return rows, ["  ".join(str(value) for value in row.values() if value) for row in rows] or ["nobody"]

    def _lift(self, options: dict[str, Any]) -> tuple[Any, list[str]]:
        kind, by, reason = RestrictionKind(options["kind"]), options["by"], options["reason"]
        loosening.permit(by=by, reason=reason, code=options["code"])
        lifted = control.lift(kind, Origin.TELEGRAM, by=by, reason=reason[:400])
        said = f"lifted {kind.value}" if lifted else f"Telegram had set no {kind.value}"
        return {"changed": lifted}, [said, holding().replace("<b>", "").replace("</b>", "")]
