"""Whether a restored database describes what chain and venue have, before a person lets it go on."""

import psycopg
from django.db import DatabaseError

from execution_app.desks import views
from execution_app.errors import Refused, Retryable
from execution_app.gate import restore_points
from execution_app.models import Position, RestorePoint, Trader
from execution_app.states import Mode, PositionState
from execution_app.venues import onchain
from ops.rollout import restoring
from ops.rollout.postgres_tools import Place

TOLD = 10


def require(*, accept_unknown_trades: bool) -> RestorePoint | None:
    """The restore that nobody has gone on from yet, if there is one. Raises Refused with everything against going on."""
    point = restore_points.unreconciled()
    if point is None:
        return None
    _finish()
    if found := objections(point, accept_unknown_trades=accept_unknown_trades):
        more = f"; and {len(found) - TOLD} more" if len(found) > TOLD else ""
        raise Refused(f"after a restore the stop is lifted last: {'; '.join(found[:TOLD])}{more}")
    return point


def _finish() -> None:
    """What a killed restore left undone. Raises Refused with what it found, once: a person has to know of it."""
    try:
        with Place.configured().connected() as session:
            outcome = restoring.finish(session)
    except (DatabaseError, psycopg.Error, Retryable) as error:
        what = "the restore was killed before it looked at the former database once more, which fails now"
        raise Refused(f"{what} (where it is lost, rename or drop it): {error}".strip()) from None
    if outcome is None:
        return
    told = [
        *outcome.notes,
        *(f"{one['action']} {one['subject']} by {one['by']}" for one in outcome.forgotten),
    ]
    if told:
        raise Refused(
            f"the restore was killed before it said what was forgotten; do again what made something stricter, then"
            f" resume: {'; '.join(told)}"
        )


def objections(point: RestorePoint, *, accept_unknown_trades: bool) -> list[str]:
    """Rows first; the venue is asked only where they are in order."""
    if found := restore_points.objections(point):
        return found
    missing, unknown = differences()
    if unknown and not accept_unknown_trades:
        hint = "--accept-unknown-trades where the traders opened them themselves"
        return [*missing, *(f"the venue has {trade} that no position here is ({hint})" for trade in unknown)]
    return missing


def differences() -> tuple[list[str], list[str]]:
    """LIVE positions that the venue does not hold as they are here, and trades of our traders that are no position.

    In every market that the venue has, allowed now or not. Raises Refused while the node cannot say.
    """
    missing, unknown = [], []
    for trader in Trader.objects.filter(wallet__isnull=False).order_by("pk"):
        try:
            holdings = {(one.symbol, one.slot): one for one in views.holdings(trader, onchain.PAIRS)}
        except Retryable as error:
            raise Refused(f"the venue's trades cannot be read: {error}") from None
        ours = Position.objects.filter(trader=trader, mode=Mode.LIVE, state=PositionState.OPEN).order_by("pk")
        for position in ours:
            held = holdings.pop((position.symbol, position.trade_index), None)
            same = held is not None and (held.is_long, held.collateral_usdc, held.leverage_x) == (
                position.is_long,
                position.collateral_usdc,
                position.leverage_x,
            )
            if not same:
                missing.append(f"position {position.pk} on {position.symbol} is not what the venue holds")
        unknown += [
            f"trade {slot} on {symbol} of trader {trader.tg_user_id}" for symbol, slot in sorted(holdings)
        ]
    return missing, unknown
