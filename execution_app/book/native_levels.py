"""The venue's own levels follow what is set here: asked for as an intent, where orders go by messages."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.book import reopened
from execution_app.models import Position, Protection, TxIntent, Wallet
from execution_app.moves import open_intent
from execution_app.states import Action, Mode, Road
from execution_app.venues.interface import DEFAULT_MAX_LAG_S, DEFAULT_SLIPPAGE_PCT

log = structlog.get_logger(__name__)
# Versions that count, whose levels the venue has not, and whose last message came to nothing for no fault of its own:
# unused until its deadline, never sent for what it waited for, ended while its opening was off the chain, or refused by
# a stop. Less and less often.
_NOT_TAKEN = """
SELECT guard.id FROM protections AS guard
JOIN positions AS held ON held.id = guard.position_id
JOIN LATERAL (
    SELECT state, reason, intent_key, settled_at FROM tx_intents AS one
    WHERE one.position_id = held.id AND one.action = 'levels' ORDER BY one.id DESC LIMIT 1
) AS last ON starts_with(last.intent_key, format('tpsl:%%s:%%s:levels', held.id, guard.version))
WHERE guard.ended_at IS NULL AND held.state = 'open' AND held.mode = 'LIVE'
AND (guard.take_profit, guard.stop_loss) IS DISTINCT FROM (held.take_profit, held.stop_loss)
AND (last.state IN ('lapsed', 'expired', 'no_op') OR last.state = 'rejected' AND last.reason = 'emergency_stop')
AND last.settled_at < now() - least(make_interval(hours => 1), make_interval(mins => 1) * 2 ^ (
    SELECT least(count(*), 7) - 1 FROM tx_intents AS asked WHERE asked.position_id = held.id
    AND starts_with(asked.intent_key, format('tpsl:%%s:%%s:levels', held.id, guard.version))
))
ORDER BY guard.id LIMIT %s
"""
BATCH = 100


def ask_again() -> int:
    """Ask anew for levels that the venue has not taken though their version still counts; returns how many.

    Until it has them they are watched here alone, and where the whole stack is away by nobody. Called when no stop holds.
    """
    if Road(settings.ENVIRONMENT.venue) is not Road.GATEWAY:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_NOT_TAKEN, [BATCH])
        untaken = [pk for (pk,) in cursor.fetchall()]
    return sum(_ask_again(pk) for pk in untaken)


def _ask_again(protection_id: int) -> bool:
    with transaction.atomic():
        row = Protection.objects.select_for_update().filter(pk=protection_id, ended_at=None).first()
        if row is None:
            return False  # somebody has set another one meanwhile
        follow(Position.objects.get(pk=row.position_id), row)
    log.warning("levels are asked for at the venue again", position=row.position_id, version=row.version)
    return True


def follow(position: Position, row: Protection) -> None:
    """Ask for the take profit and the stop of this version at the venue, in the transaction that begins it.

    Nothing for a simulated position, nor where the venue has them already, nor on a road on which it takes none:
    there ours are watched beside its own.
    """
    wanted = row.take_profit, row.stop_loss
    if position.mode != Mode.LIVE or Road(settings.ENVIRONMENT.venue) is not Road.GATEWAY:
        return
    # What is under way may become the venue's levels after all: then those it has now are asked for anew.
    mine = Q(position=position) | reopened.asked_of_void(position)
    under_way = TxIntent.objects.filter(mine, action=Action.LEVELS, settled_at=None).exists()
    if wanted == (position.take_profit, position.stop_loss) and not under_way:
        return
    wallet = Wallet.objects.filter(trader=position.trader).first()
    if wallet is None:
        log.error("levels stay ours alone: the trader has no wallet", position=position.pk)
        return
    key = f"tpsl:{position.pk}:{row.version}:levels"
    before = TxIntent.objects.filter(position=position, intent_key__startswith=key).count()
    open_intent(
        key=f"{key}#{before + 1}" if before else key,
        by=row.set_by[:64],
        trader=position.trader,
        wallet=wallet,
        tg_user_id=position.trader.tg_user_id,
        road=Road.GATEWAY.value,
        action=Action.LEVELS.value,
        symbol=position.symbol,
        slippage_pct=DEFAULT_SLIPPAGE_PCT,
        position=position,
        take_profit=row.take_profit,
        stop_loss=row.stop_loss,
        # An earlier message is waited for until its deadline.
        expires_at=Now() + timedelta(seconds=DEFAULT_MAX_LAG_S * (3 if under_way else 1)),
    )
