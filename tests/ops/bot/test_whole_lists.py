"""What a phone has no room for is counted, and whoever reads everybody's is told whose it is; without a process."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from execution_app import audit
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.models import Cap, IntentTransition, Position, Protection, Trader, TxIntent, Wallet
from execution_app.moves import move
from execution_app.states import IntentState, Mode, Reason
from ops.bot import figures, holdings, looking, operating, standing, telling, words
from ops.bot.models import Role, TelegramUser
from ops.bot.outbox import Job
from signals_app.models import Signal
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each

pytestmark = pytest.mark.usefixtures("database")
OPERATOR = TelegramUser(tg_user_id=501, account="ann", role=Role.OPERATOR)
VIEWER = TelegramUser(tg_user_id=503, role=Role.VIEWER)
TRADER = TelegramUser(tg_user_id=123, role=Role.TRADER)
MORE = operating.MOST_HELD + 3


def held(count: int) -> None:
    trader = Trader.objects.create(tg_user_id=123, label="rehearsal", address="0x" + "aa" * 20)
    for number in range(count):
        intent = TxIntent.objects.create(
            intent_key=f"sig:drill:{number}", trader=trader, tg_user_id=123, action="close", symbol="BTC-USD",
            slippage_pct=1,
        )  # fmt: skip
        move(intent, IntentState.HELD, why="test", by="test", reason=Reason.MODE_DEGRADED.value)


def test_what_is_held_is_told_with_whose_since_when_and_how_many_there_are() -> None:
    held(MORE)
    came, waits = timezone.now() - timedelta(hours=3), timezone.now() - timedelta(minutes=7)
    with without_guards():
        TxIntent.objects.update(accepted_at=came)
        IntentTransition.objects.filter(to_state="held").update(at=waits)
    said = operating.list_held(OPERATOR, [])
    assert f"close BTC-USD, rehearsal: LIVE is not permitted right now, since {words.moment(waits)}" in said
    assert words.moment(came) not in said, "when it came is not since when it waits"
    assert "and 3 more" in said
    assert said.index("and 3 more") < said.index("/approve KEY CODE REASON")


def test_status_leads_an_operator_to_what_is_held() -> None:
    assert "/held" not in looking.status(OPERATOR, [])
    held(1)
    assert "held: 1\n/held lists what is held" in looking.status(OPERATOR, [])
    assert "/held" not in looking.status(TRADER, []), "who may not decide it"


def rest() -> None:
    """All of them are opens that wait at the venue for their price."""
    terms = {
        "order_type": "limit",
        "limit_price": 95_000,
        "collateral_usdc": 5,
        "leverage_x": 2,
        "is_long": True,
    }
    wallet = Wallet.objects.create(
        trader=Trader.objects.get(), chain_id=31337, address="0x" + "bb" * 20, balance_wei=10**18
    )
    slot = {"wallet": wallet, "nonce": F("id"), "calldata": b"\x01", "value_wei": 0, "gas_limit": 900_000}
    with without_guards():
        TxIntent.objects.update(
            action="open", state="ordered", mode="LIVE", road="onchain", settled_at=None, **slot, **terms
        )


def test_a_stop_never_names_ten_as_if_they_were_all() -> None:
    held(MORE)
    rest()
    said = operating.stop(OPERATOR, [])
    assert "sig:drill:9</code>, and 3 more" in said
    assert "sig:drill:10" not in said
    with without_guards():
        first = TxIntent.objects.filter(intent_key__in=[f"sig:drill:{number}" for number in range(3)])
        first.update(order_type="market", limit_price=None)
    said = operating.stop(OPERATOR, [])
    assert "sig:drill:12" in said
    assert "more" not in said


def test_whose_an_order_is_is_told_to_whoever_sees_those_of_others() -> None:
    held(1)
    Signal.objects.create(
        source="drill", signal_id="s1", tg_user_id=999, symbol="BTC-USD", side="LONG", slippage_pct=1,
        body_sha256="0" * 64,
    )  # fmt: skip
    for person, said in (
        (OPERATOR, "CLOSE, rehearsal: "),
        (VIEWER, "CLOSE, rehearsal: "),
        (TRADER, "CLOSE: "),
    ):
        assert f"BTC-USD {said}" in holdings.orders(person)
        assert f"BTC-USD {said}" in holdings.why(person, ["sig:drill:0"])
    assert "BTC-USD LONG, trader 999: " in holdings.signals(VIEWER, [])
    ended = TxIntent.objects.get()
    move(ended, IntentState.REJECTED, why="test", by="test", reason=Reason.OPERATOR_REJECTED.value)
    assert "BTC-USD CLOSE, rehearsal: " in holdings.history(VIEWER, [])


def test_why_says_of_a_signal_without_an_order_what_was_decided() -> None:
    fields = {"source": "drill", "tg_user_id": 123, "symbol": "BTC-USD", "side": "LONG", "slippage_pct": 1}
    Signal.objects.create(signal_id="s1", body_sha256="0" * 64, **fields)
    reasons = [Reason.NOTIONAL_ABOVE_CAP.value, Reason.BANNED.value]
    Signal.objects.create(
        signal_id="s2", body_sha256="0" * 64, decision="rejected", reasons=reasons, **fields
    )
    for name in ("s2", "sig:drill:s2"):
        said = holdings.why(TRADER, [name])
        assert "No order was made of this signal</b>" in said
        assert "refused</b> (larger than an order may be; an operator has banned it)" in said
    assert "No order was made of this signal yet</b>" in holdings.why(TRADER, ["s1"])
    other = TelegramUser(tg_user_id=777, role=Role.TRADER)
    assert "I find no order" in holdings.why(other, ["sig:drill:s2"])
    assert "I find no order" in holdings.why(TRADER, ["sig:drill:s3"])


def test_a_ban_is_no_zero() -> None:
    Cap.objects.create(scope="symbol", scope_value="BTC-USD", name="banned", value=0, set_by="x", reason="x")
    assert "ban for symbol BTC-USD: nothing may be opened" in looking.caps(VIEWER, [])


def test_the_audit_log_names_people_by_the_id_that_operators_know_them_by() -> None:
    with transaction.atomic():
        who = audit.by("telegram 501", AuditOrigin.TELEGRAM)
        audit.record(AuditAction.TRADER_ADDED, "trader 123", who=who)
    said = standing.logs(OPERATOR, [])
    assert "telegram 501 (Telegram): <b>trader added</b> trader 123" in said


def test_levels_are_told_and_drawn_as_they_are_now() -> None:
    """Those of the position's own row are the venue's, which stay as the open set them."""
    one_of_each()
    position = Position.objects.get()
    with without_guards():
        Position.objects.update(take_profit=70_000, stop_loss=1)
    assert "BTC-USD LONG</b> 5.00 USDC" in holdings.positions(VIEWER, [])
    assert "\n   stop loss 50,000 USD" in holdings.positions(VIEWER, [])
    assert "take profit" not in holdings.positions(VIEWER, [])
    card = figures.card(position)
    assert card["take_profit"] is None
    assert Decimal(card["stop_loss"]) == 50_000
    with without_guards():
        Protection.objects.update(take_profit=Decimal("71000.5"), stop_loss=None, trailing_stop_pct=2)
    said = holdings.positions(VIEWER, [])
    assert "\n   take profit 71,000.5 USD, trailing stop 2 %" in said
    assert "stop loss" not in said
    with words.speaking("de"):
        assert "Take-Profit 71,000.5 USD, Trailing-Stop 2 %" in holdings.positions(VIEWER, [])


def summary(**more: int) -> str:
    told = {"mode": "LIVE", "pnl_usdc": "1", "closes": 2, "opens": 0, "held": 0, "exposure_usdc": "0", **more}
    steps = [{"event": "daily", "day": "2026-01-02", "modes": [told]}]
    return telling.text(Job(1, 1, False, "daily 1", {}, steps, False, False, 0, "en"))


def test_closes_whose_proceeds_nobody_knows_are_counted_in_the_daily_summary() -> None:
    today = datetime.now(UTC).date()
    assert figures.of_day(None, Mode.LIVE, today)["unknown"] == 0
    assert "in 2 close(s), 1 of unknown proceeds, 0 open(s)" in summary(unknown=1)
    assert "in 2 close(s), 0 open(s)" in summary(unknown=0)
    assert "in 2 close(s), 0 open(s)" in summary(), "one from before it was counted"
