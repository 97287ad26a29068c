"""Files for accounting: one mode in each, numbers as stored, times in UTC, whose they are, and read in batches."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from execution_app.models import Fill, TxIntent, TxReceipt
from ops.bot.models import TelegramUser
from ops.panel import roles
from ops.panel.exports import sheets
from tests.guards import without_guards
from tests.ops.panel.rows import one_of_each


def read(client: Client, **asked: Any) -> list[dict[str, str]]:
    today = datetime.now(UTC).date()
    query = {"sheet": "fills", "mode": "LIVE", "first": today - timedelta(days=1), "last": today, **asked}
    answer = client.get("/admin/export/", query)
    assert answer.status_code == 200, answer
    assert answer.streaming, answer.content.decode()
    assert answer.headers["Content-Disposition"].startswith(
        f'attachment; filename="vanta-{query["sheet"]}-{query["mode"]}-'
    )
    text = b"".join(cast("Any", answer).streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_a_fill_has_its_costs_exactly(admin: Client) -> None:
    intent = one_of_each()
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(value_wei=350_000_000_000_000)
        Fill.objects.update(price="60000.1234567890", fee_usdc="0.000001", leverage_x="2.5")
        TxReceipt.objects.update(l1_fee_wei=7, gas_used=300_001, effective_gas_price_wei=1_000_000_007)
    (row,) = read(admin)
    assert row["price_usd"] == "60000.123456789"
    assert row["fee_usdc"] == "0.000001"
    assert row["notional_usdc"] == "12.5"
    assert (row["mode"], row["direction"], row["action"], row["tg_user_id"]) == (
        "LIVE",
        "LONG",
        "open",
        "123",
    )
    assert row["execution_fee_wei"] == "350000000000000"
    assert row["gas_fee_wei"] == str(300_001 * 1_000_000_007)
    assert row["l1_fee_wei"] == "7"
    assert (row["eth_usd"], row["chain_cost_usd"]) == ("", ""), "no ETH-USD fill is known"
    assert row["usd_method"] == sheets.METHOD
    assert datetime.fromisoformat(row["filled_at"]).tzinfo == UTC
    assert row["filled_at"].endswith("Z")


def test_ether_is_valued_at_the_newest_fill_within_a_day_before(admin: Client) -> None:
    intent = one_of_each()
    ether = TxIntent.objects.get(action="close")
    fill = Fill.objects.get()
    old = fill.filled_at - timedelta(hours=23, minutes=59)
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(value_wei=5)
        TxIntent.objects.filter(pk=ether.pk).update(
            symbol="ETH-USD", state="simulated", mode="DRY", settled_at=old
        )
        Fill.objects.create(
            intent=ether, position=fill.position, action="close", mode="DRY", price=Decimal("3000.5"),
            collateral_usdc=1, leverage_x=1, tx_hash="dry:1", log_index=0, filled_at=old,
        )  # fmt: skip
    (row,) = read(admin)
    assert row["eth_usd"] == "3000.5"
    assert Decimal(row["chain_cost_usd"]) == (300_000 * 10**9 + 5) * Decimal("3000.5") / 10**18
    assert datetime.fromisoformat(row["eth_usd_at"]) == old
    with without_guards():
        Fill.objects.filter(mode="DRY").update(filled_at=old - timedelta(minutes=2))
    assert read(admin)[0]["eth_usd"] == ""
    with without_guards():
        Fill.objects.filter(mode="DRY").update(filled_at=fill.filled_at + timedelta(seconds=1))
    assert read(admin)[0]["eth_usd"] == "", "a later price is not the price at the time"


def test_no_digit_of_what_the_chain_cost_is_rounded_away(admin: Client) -> None:
    """A few wei at a price of ten decimals have more digits than PostgreSQL keeps of a quotient."""
    intent = one_of_each()
    ether, fill = TxIntent.objects.get(action="close"), Fill.objects.get()
    price, gas_used, gas_price_wei = Decimal("3000.1234567891"), 300_001, 1_000_000_007
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(value_wei=350_000_000_000_001)
        TxReceipt.objects.update(l1_fee_wei=7, gas_used=gas_used, effective_gas_price_wei=gas_price_wei)
        old = fill.filled_at - timedelta(hours=1)
        TxIntent.objects.filter(pk=ether.pk).update(
            symbol="ETH-USD", state="simulated", mode="DRY", settled_at=old
        )
        Fill.objects.create(
            intent=ether, position=fill.position, action="close", mode="DRY", price=price,
            collateral_usdc=1, leverage_x=1, tx_hash="dry:1", log_index=0, filled_at=old,
        )  # fmt: skip
    paid_wei = gas_used * gas_price_wei + 7 + 350_000_000_000_001
    with localcontext(prec=60):
        exact = (Decimal(paid_wei) * price).scaleb(-18)
    assert len(exact.as_tuple().digits) > 24, "or this shows nothing"
    (opened,) = read(admin)
    assert Decimal(opened["chain_cost_usd"]) == exact
    (mined,) = read(admin, sheet="transactions")
    assert Decimal(mined["chain_cost_usd"]) == exact


def test_modes_days_and_traders_are_apart(admin: Client) -> None:
    one_of_each()
    today = datetime.now(UTC).date()
    assert read(admin, mode="DRY") == []
    assert read(admin, trader="124") == []
    assert len(read(admin, trader="123")) == 1
    with without_guards():
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
        Fill.objects.update(filled_at=midnight)
    assert len(read(admin, first=today, last=today)) == 1
    assert read(admin, first=today - timedelta(days=1), last=today - timedelta(days=1)) == []


def test_transactions_have_reverts_too_which_pay_no_execution_fee(admin: Client) -> None:
    intent = one_of_each()
    with without_guards():
        TxIntent.objects.filter(pk=intent.pk).update(value_wei=9)
    (row,) = read(admin, sheet="transactions")
    assert (row["status"], row["execution_fee_wei"], row["kind"], row["nonce"]) == ("1", "9", "exec", "0")
    TxReceipt.objects.update(status=0)
    (row,) = read(admin, sheet="transactions")
    assert (row["status"], row["execution_fee_wei"]) == ("0", "0")
    TxReceipt.objects.update(canonical=False)
    assert read(admin, sheet="transactions") == []


def test_a_long_file_is_read_in_batches_without_a_gap(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    one_of_each()
    monkeypatch.setattr(sheets, "BATCH", 2)
    fill = Fill.objects.get()
    at = fill.filled_at
    with without_guards():
        for number in range(4):
            copy = TxIntent.objects.filter(action="close").order_by("pk")[0]
            copy.pk, copy.intent_key, copy.holds_position = None, f"sig:drill:more-{number}", False
            copy.save(force_insert=True)
            fill.pk, fill.intent, fill.log_index, fill.filled_at = (
                None,
                copy,
                10 + number,
                at,
            )  # all of one moment
            fill.save(force_insert=True)
    with CaptureQueriesContext(connection) as captured:
        rows = read(admin)
    assert sorted(row["intent_key"] for row in rows) == [
        *(f"sig:drill:more-{number}" for number in range(4)),
        "sig:drill:page-001",
    ]
    assert len([one for one in captured.captured_queries if "FROM fills f" in one["sql"]]) == 3


def test_a_name_is_no_formula(admin: Client) -> None:
    intent = one_of_each()
    assert intent.trader is not None
    intent.trader.label = "=HYPERLINK(0)"
    intent.trader.save(update_fields=["label"])
    assert read(admin)[0]["trader"] == "'=HYPERLINK(0)"


@pytest.mark.parametrize(
    "wrong", [{"mode": ""}, {"mode": "BOTH"}, {"first": "2026-01-02", "last": "2026-01-01"}, {"sheet": "users"},
              {"first": "1990-01-01"}, {"trader": "-1"}],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(admin: Client, wrong: dict[str, str]) -> None:
    asked = {"sheet": "fills", "mode": "LIVE", "first": "2026-01-01", "last": "2026-01-02", **wrong}
    answer = admin.get("/admin/export/", asked)
    assert answer.status_code == 422
    assert not answer.streaming


def test_a_trader_gets_their_own_rows_alone(admin: Client) -> None:
    one_of_each()
    user = User.objects.create_user("theirs", password="not-used-here", is_staff=True)
    user.groups.add(roles.group(roles.SiteRole.TRADER))
    client = Client()
    client.force_login(user)
    assert read(client) == []
    TelegramUser.objects.create(tg_user_id=123, role="trader", account="theirs", allowed_by="test")
    assert len(read(client)) == 1
    assert read(client, trader="124") == []
    with without_guards():
        TelegramUser.objects.update(tg_user_id=124)
    assert read(client, trader="123") == []
