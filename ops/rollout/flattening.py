"""Leave everything: each live position is closed once, while nothing new is opened."""

import time
import uuid
from collections.abc import Callable

from django.db import transaction

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.bells import ring
from execution_app.engine import exits, resting
from execution_app.models import Position
from execution_app.states import Mode, PositionState
from execution_app.tasks import submit

POLL_S = 0.5


def flatten(
    *,
    by: str,
    within_s: int,
    say: Callable[[str], object] | None,
    origin: AuditOrigin = AuditOrigin.COMMAND,
) -> int:
    """Close every LIVE position, those of opens that fill meanwhile too, and take back what rests; returns how many are left.

    The caller has set reduce-only. Ends early when all are closed.
    """
    run = uuid.uuid4().hex[:12]
    _tell(AuditAction.FLATTEN_BEGUN, run, audit.by(by, origin))
    left = _close_all(run, by, within_s, say)
    _tell(AuditAction.FLATTEN_ENDED, run, audit.by(by, origin), left=left)
    return left


def _tell(action: AuditAction, run: str, who: audit.Who, **facts: int) -> None:
    with transaction.atomic():
        audit.record(action, f"flatten {run}", after=facts, who=who)


def _close_all(run: str, by: str, within_s: int, say: Callable[[str], object] | None) -> int:
    deadline_s = time.monotonic() + within_s
    said = ""
    while True:
        # In this order: what fills in between is seen in one of the two.
        under_way = exits.opens_under_way()
        held = list(
            Position.objects.filter(mode=Mode.LIVE, state=PositionState.OPEN).select_related("trader")
        )
        words = f"{len(held)} live position(s) open, {under_way} open(s) under way"
        if say and words != said:
            say(words)
            said = words
        if not held and not under_way:
            return 0
        if time.monotonic() > deadline_s:
            return len(held) or under_way
        for order in resting.all_live():
            cancel = resting.ask_to_take_back(order, key=f"admin:flatten:{run}:order:{order.pk}", by=by)
            if cancel.wallet_id is not None:
                ring(submit, cancel.wallet_id)
        for position in held:
            wallet_id = exits.ask(position, key=f"admin:flatten:{run}:{position.pk}", by=by)
            if wallet_id is not None:
                ring(submit, wallet_id)
        time.sleep(POLL_S)
