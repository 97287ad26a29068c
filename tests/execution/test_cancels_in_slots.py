"""What fills a slot, what it pays, and what becomes of an order whose fee ceiling is reached."""

from typing import Any

import pytest
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from execution_app.engine import replace
from execution_app.gate.admission import Departure
from execution_app.models import SignRequest, TxIntent, TxSend, Wallet
from execution_app.node import fees, signers
from execution_app.node.signing.slots import Signed
from execution_app.states import SendKind
from tests.execution import rows
from tests.execution.slots import CLOSE, HELD, LONG_AGO, bytes_of, other_wallet, slot
from tests.execution.test_replacements import (
    CANCEL,
    GWEI,
    MARKET,
    NEVER,
    PENDING,
    SENDING,
    configure,
    made,
    parts,
    request,
    stuck,
    unheld,
    wallet,
)

__all__ = ["parts", "wallet"]  # fixtures
pytestmark = pytest.mark.usefixtures("database")


def cancel(send: TxSend) -> TxSend | None:
    return replace.cancel_in_slot(send.intent, MARKET, why="drill")


def test_a_cancel_pays_more_than_the_newest_bytes_and_leaves_at_once(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    older = stuck(wallet)
    bytes_of(older.intent, 2, "bump", max_fee_wei=40 * GWEI, tip_wei=8 * GWEI)
    bytes_of(older.intent, 1, "bump", max_fee_wei=20 * GWEI, tip_wei=2 * GWEI)
    made_of: list[signers.Slot] = []

    def sign(slot: signers.Slot, fee: fees.Fee) -> Signed:
        made_of.append(slot)
        return Signed(b"\x02", rows.tx_hash())

    monkeypatch.setattr(signers, "sign", sign)
    send = cancel(older)
    assert send is not None
    assert (send.attempt, send.kind) == (3, SendKind.CANCEL)
    assert (send.max_fee_wei, send.tip_wei) == (45 * GWEI, 9 * GWEI)
    send.refresh_from_db()
    assert send.leased_at is not None
    [empty] = made_of
    assert (empty.to, empty.data, empty.nonce) == (wallet.address, b"", 3)


@pytest.mark.parametrize(
    ("tip_wei", "then_wei"), [(GWEI, GWEI + 1), (90 * GWEI - 1, 90 * GWEI), (90 * GWEI,) * 2]
)
def test_above_the_ceiling_a_cancel_pays_what_the_ceiling_allows(
    wallet: Wallet, tip_wei: int, then_wei: int
) -> None:
    send = cancel(stuck(wallet, max_fee_wei=90 * GWEI, tip_wei=tip_wei))
    assert send is not None
    assert (send.max_fee_wei, send.tip_wei) == (90 * GWEI, then_wei)


def test_a_remote_signer_is_asked_for_a_cancel_once(wallet: Wallet) -> None:
    """Asked for an order, it is asked for the cancel instead; what it is asked of another slot is no matter."""
    send, other = stuck(wallet), stuck(other_wallet(), 9)
    request(other.intent, SendKind.CANCEL)
    request(send.intent)
    assert cancel(send) is not None
    SignRequest.objects.filter(intent=send.intent).update(kind=SendKind.CANCEL)
    assert cancel(send) is None


@pytest.mark.parametrize(("gwei", "may_be"), [(79, True), (80, True), (81, False)])
def test_a_slot_may_be_cancelled_below_the_ceilings_last_eighth(
    wallet: Wallet, gwei: int, *, may_be: bool
) -> None:
    intent = stuck(wallet).intent
    bytes_of(intent, 2, "bump", max_fee_wei=gwei * GWEI, tip_wei=GWEI)
    bytes_of(intent, 1, "bump", max_fee_wei=85 * GWEI if may_be else GWEI, tip_wei=GWEI)
    assert replace.may_be_cancelled(intent, MARKET) is may_be


def test_whatever_room_there_is_is_looked_for_in_the_cheapest_of_markets(settings: Settings) -> None:
    configure(settings, max_fee_per_gas_gwei=0.009)
    send = TxSend(kind=SendKind.CANCEL, max_fee_wei=8_000_000, tip_wei=8_000_000)
    assert replace.has_room(slot_of_nobody(), send) is True
    send.max_fee_wei = send.tip_wei = 8_000_001
    assert replace.has_room(slot_of_nobody(), send) is False


def slot_of_nobody() -> Any:
    return TxIntent(action="open")


# At the ceiling


@pytest.mark.parametrize(
    ("policy", "fields", "expected"),
    [
        ("cancel", {"max_fee_wei": 75 * GWEI}, CANCEL),
        ("cancel", {"max_fee_wei": 81 * GWEI}, None),  # nodes would take no cancel either
        ("cancel", {"max_fee_wei": 85 * GWEI, **CLOSE}, None),
        ("hold", {"max_fee_wei": 85 * GWEI}, None),
        ("cancel", {"max_fee_wei": 75 * GWEI, "kind": "cancel"}, CANCEL),  # raised: it has the open's room
        ("cancel", {"max_fee_wei": 85 * GWEI, "kind": "cancel"}, None),
        ("hold", {"max_fee_wei": 75 * GWEI}, ("bump", 1)),
    ],
)
def test_by_policy_an_open_is_cancelled_at_its_ceiling(
    settings: Settings, wallet: Wallet, policy: str, fields: dict[str, Any], expected: tuple[str, int] | None
) -> None:
    configure(settings, at_fee_ceiling=policy)
    stuck(wallet, **fields)
    assert made(wallet) == expected


def test_an_orders_own_cost_is_a_ceiling_too(settings: Settings, wallet: Wallet) -> None:
    for policy, expected in (("hold", None), ("cancel", CANCEL)):
        configure(settings, at_fee_ceiling=policy)
        nonce = 3 if policy == "hold" else 4
        stuck(wallet, nonce, max_cost_wei=21_000 * 11 * GWEI)
        assert made(wallet, nonce) == expected


def test_who_wants_it_sooner_does_not_want_it_cancelled(settings: Settings, wallet: Wallet) -> None:
    configure(settings, at_fee_ceiling="cancel", bump_after_s=10**8)
    stuck(wallet, max_fee_wei=75 * GWEI, speed_up_asked_at="2100-01-01T00:00:00Z")
    assert made(wallet) is None


@pytest.mark.parametrize("policy", ["cancel", "hold"])
def test_at_the_ceiling_only_an_opens_order_is_cancelled(
    settings: Settings, wallet: Wallet, policy: str
) -> None:
    """Whatever its newest bytes are, which are looked at once more."""
    configure(settings, at_fee_ceiling=policy)
    open_, close = stuck(wallet), stuck(wallet, 4, **CLOSE)
    for send, kind, cancels in (
        (open_, SendKind.CANCEL, False),
        (close, SendKind.EXEC, False),
        (open_, SendKind.BUMP, policy == "cancel"),
    ):
        found = replace._at_ceiling(send.intent, TxSend(kind=kind, max_fee_wei=1), MARKET)
        assert (found is not None) is cancels


# What is said of it


def why(wallet: Wallet, nonce: int = 3) -> list[tuple[Any, ...]]:
    with capture_logs() as lines:
        replace.replace(wallet.pk, MARKET, nonce)
    return [(line["nonce"], line["why"]) for line in lines if line["event"] == "slot is cancelled"]


def test_why_a_slot_is_cancelled_is_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    configure(settings, at_fee_ceiling="cancel")
    monkeypatch.setattr(replace, "may_leave", lambda *_, **__: Departure.CANCEL)
    stuck(wallet, 3, SENDING, held_at=None, **NEVER)
    unheld(wallet, nonce=4)
    stuck(wallet, 5, max_fee_wei=75 * GWEI)
    assert why(wallet, 3) == [(3, "no node will ever take these bytes")]
    assert why(wallet, 4) == [(4, "it may no longer leave")]
    assert why(wallet, 5) == [(5, "its fee ceiling is reached")]


def test_a_higher_fee_is_logged_with_its_slot(wallet: Wallet) -> None:
    send = stuck(wallet)
    with capture_logs() as lines:
        replace.replace(wallet.pk, MARKET, 3)
    [line] = [line for line in lines if line["event"] == "replaced by fee"]
    fee = fees.raised(fees.Fee(int(send.max_fee_wei), int(send.tip_wei)), MARKET, 90 * GWEI)
    assert fee is not None
    told = [line[name] for name in ("intent", "nonce", "attempt", "max_fee_wei")]
    assert told == [send.intent_id, 3, 1, fee.max_fee_wei]


def test_a_slot_whose_first_bytes_are_held_is_asked_for_with_a_cancel_of_any_kind(wallet: Wallet) -> None:
    """Asked for by a person and not signed yet: the gate says so only of bytes that no node holds."""
    intent = slot(wallet, 3, PENDING, cancel_asked_at=LONG_AGO)
    bytes_of(intent, max_fee_wei=10 * GWEI, tip_wei=GWEI, **HELD)
    assert made(wallet) == ("bump", 1)
    unheld(wallet, nonce=4, cancel_asked_at=LONG_AGO)
    assert made(wallet, 4) == CANCEL
