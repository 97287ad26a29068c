"""A change of margin that the chain has carried out already under a nonce that this copy does not know is not made again."""

from decimal import Decimal

import pytest

from execution_app.engine import adoption
from execution_app.engine.consumed import What
from execution_app.models import TxIntent, Wallet
from execution_app.node.history import Found
from execution_app.venues import onchain
from execution_app.venues.calls import Margin, encode_update_margin
from tests.execution import rows
from tests.execution.test_consumed import TRADER, chain, counted, found, other, waiting, waiting_close, wallet

__all__ = ["chain", "wallet"]  # the fixtures
pytestmark = pytest.mark.usefixtures("database")
UNSIZED = {"is_long": None, "collateral_usdc": None, "leverage_x": None}


def margin(of: Wallet, usdc: int, position: int) -> TxIntent:
    return waiting(of, action="margin", margin_usdc=usdc, position_id=position, road="onchain", **UNSIZED)


def shown(way: Margin, usdc: int, trade_index: int = 0) -> Found:
    call = encode_update_margin(1, trade_index, way, Decimal(usdc), [])
    return found(3, data=onchain.encode_delegated(TRADER, call))


@pytest.mark.parametrize(("way", "usdc"), [(Margin.DEPOSIT, 3), (Margin.WITHDRAW, -3)])
def test_what_the_chain_shows_is_refused_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, chain: dict[int, Found], way: Margin, usdc: int
) -> None:
    Wallet.objects.filter(pk=wallet.pk).update(halted_reason="older copy", halted_at="2026-01-01T00:00:00Z")
    wallet.refresh_from_db()
    position = rows.position(trader_id=wallet.trader_id)
    elsewhere = rows.position(trader_id=wallet.trader_id, trade_index=1)
    asked = [margin(wallet, usdc, position), margin(wallet, usdc, position)]
    margin(wallet, -usdc, position)
    margin(wallet, usdc + 1, position)
    margin(wallet, usdc, elsewhere)
    margin(other(), usdc, rows.position(trader_id=other().trader_id))
    over = margin(wallet, usdc, position)
    rows.update("tx_intents", over.pk, {"state": "rejected", "settled_at": "2026-01-01T00:00:00Z"})
    waiting(wallet)
    waiting_close(wallet, position_id=position)
    asked[0].save(update_fields=["attempts"])  # now it lies behind the other
    chain[3] = shown(way, 3)
    counted(monkeypatch, 4)
    plan = adoption.plan(wallet)
    assert [use.what for use in plan.uses.uses] == [What.FOREIGN]
    assert (plan.problem, plan.refused) == ("", asked)
