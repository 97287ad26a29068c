"""`manage.py stop`: nothing new is signed or sent once this has returned."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from execution_app.engine import cancels, resting
from execution_app.gate import control
from execution_app.states import RestrictionKind
from ops.rollout import flattening
from ops.rollout.operator import Switch


class Command(Switch):
    help = (
        "Emergency stop. Prints the hashes that may still have left. With --cancel-pending opens that are signed "
        "and not mined are cancelled in their slots; with --flatten every live position is closed first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--cancel-pending", action="store_true", help="fill the slots of unmined opens")
        way.add_argument(
            "--flatten", action="store_true", help="reduce-only, close all that is live, then stop"
        )
        parser.add_argument(
            "--wait-s", type=int, default=300, help="how long --flatten may take; default 300"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["flatten"]:
            self._flatten(options)
        imposed = self.restrict(RestrictionKind.STOP, options)
        cancelled = cancels.request(by=options["by"]) if options["cancel_pending"] else []
        lines = ["stopped" if imposed.changed else "was stopped by a command already"]
        lines += [f"may still have left: {tx_hash}" for tx_hash in imposed.in_flight]
        lines += [f"was at the signer, which may yet sign in vain: {slot}" for slot in imposed.at_signer]
        lines += [f"is cancelled in its slot: {key}" for key in cancelled]
        rests = resting.keys_under_stop()
        lines += [f"rests at the venue, which may fill it under the stop: {key}" for key in rests or []]
        if rests is None:
            lines.append("the database does not say what rests at the venue; the stop holds")
        facts = {"changed": imposed.changed, "in_flight": imposed.in_flight, "cancelling": cancelled}
        facts |= {"at_signer": imposed.at_signer, "resting": rests}
        self.tell(options, "\n".join(lines), **facts)

    def _flatten(self, options: dict[str, Any]) -> None:
        if RestrictionKind.STOP in control.active_kinds():
            raise CommandError(
                "a stop holds, and nothing leaves under it: set reduce-only, resume, then flatten"
            )
        self.restrict(RestrictionKind.REDUCE_ONLY, options)
        say = None if options["json"] else self.stdout.write
        left = flattening.flatten(by=options["by"], within_s=options["wait_s"], say=say)
        if left:
            raise CommandError(f"{left} live position(s) are still open; reduce-only holds, no stop was set")
