"""Which bytes of a wallet may be the first that leave, slot by slot; what then becomes of them stands in test_offers.py."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from execution_app.engine import broadcast, permissions
from execution_app.engine.broadcast import _Leased
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused
from execution_app.gate.admission import Departure
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.node import fees
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.states import IntentState, Reason, SendKind
from tests.execution import rows
from tests.execution.slots import CLOSE, LIVE, LONG_AGO, other_wallet, slot, two_wallets

pytestmark = pytest.mark.usefixtures("database")
MARKET = fees.Market(1, 1)


@pytest.fixture
def wallet() -> Wallet:
    return two_wallets()


def answer(monkeypatch: pytest.MonkeyPatch, departure: Departure, asked: list[bool] | None = None) -> None:
    def may_leave(intent: TxIntent, ruling: object, now: object, *, expired: bool) -> Departure:
        if asked is not None:
            asked.append(expired)
        return departure

    monkeypatch.setattr(broadcast, "may_leave", may_leave)


# Page by page


def in_pages(monkeypatch: pytest.MonkeyPatch, *pages: _Leased) -> list[Any]:
    """Looks at these; returns after which nonces, what was permitted, and how many were given to nodes."""
    told: list[Any] = []
    left, permitted = iter(pages), iter(range(100))
    begun = iter(range(1_000, 2_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(begun))
    monkeypatch.setattr(broadcast, "_look_again", lambda wallet_id: next(permitted))

    def lease(wallet_id: int, market: object, after: int, granted: object) -> _Leased:
        assert (wallet_id, market) == (7, MARKET)
        told.append((after, granted))
        next(begun)
        return next(left)

    def offer(sends: Sequence[TxSend], begun_s: float) -> None:
        told[-1] += (len(sends), begun_s)

    monkeypatch.setattr(broadcast, "_lease", lease)
    monkeypatch.setattr(broadcast, "offer", offer)
    return told


def test_slots_are_looked_at_page_by_page_until_there_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a lease begins before it: who waits for the wallet has less of it left."""
    two, three = [TxSend(), TxSend()], [TxSend(), TxSend(), TxSend()]
    told = in_pages(monkeypatch, _Leased(two, 100, 99), _Leased(three, 7, None))
    assert broadcast.broadcast(7, MARKET) == 5
    assert told == [(-1, 0, 2, 1_000), (99, 1, 3, 1_002)]


@pytest.mark.parametrize("each", [(100, 100), (67, 67, 67), (199, 1), (1, 199), (250,)])
def test_where_nothing_of_200_slots_leaves_no_more_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, each: tuple[int, ...]
) -> None:
    told = in_pages(monkeypatch, *[_Leased([], looked_at, 5) for looked_at in each])
    assert broadcast.broadcast(7, MARKET) == 0
    assert len(told) == len(each)


@pytest.mark.parametrize("behind", [(100, 100), (199, 1)])
def test_what_leaves_begins_that_count_anew(monkeypatch: pytest.MonkeyPatch, behind: tuple[int, ...]) -> None:
    pages = [_Leased([], 150, 5), _Leased([TxSend()], 150, 6), *[_Leased([], some, 7) for some in behind]]
    told = in_pages(monkeypatch, *pages)
    assert broadcast.broadcast(7, MARKET) == 1
    assert len(told) == 4


# What the trader permits by now

LOOKED: Any = object()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Wallet]:
    asked: list[Wallet] = []

    def look(wallet: Wallet) -> object:
        asked.append(wallet)
        return LOOKED

    monkeypatch.setattr(permissions, "look", look)
    return asked


def waited(
    wallet: Wallet, *, age_s: float = 60, state: IntentState = IntentState.SIGNED, **fields: object
) -> None:
    pk = slot(wallet, 3, state, **fields).pk
    rows.update("tx_intents", pk, {"updated_at": database_now() - timedelta(seconds=age_s)})


@pytest.mark.parametrize("age_s", [5.5, 60])
def test_an_open_that_waited_signed_is_asked_about_again(
    looks: list[Wallet], wallet: Wallet, age_s: float
) -> None:
    waited(wallet, age_s=age_s)
    assert broadcast._look_again(wallet.pk) is LOOKED
    assert looks == [wallet]
    with CaptureQueriesContext(connection) as more:
        assert looks[0].trader.address
    assert not more.captured_queries


@pytest.mark.parametrize(
    "fields",
    [
        {"age_s": -60},
        {"age_s": -3},
        {"state": IntentState.SENDING},
        {"state": IntentState.RESERVED},
        CLOSE,
        {"of_other": True},
    ],
)
def test_nothing_else_asks_a_node(looks: list[Wallet], wallet: Wallet, fields: dict[str, Any]) -> None:
    mine = not fields.get("of_other")
    waited(wallet if mine else other_wallet(), **{k: v for k, v in fields.items() if k != "of_other"})
    assert broadcast._look_again(wallet.pk) is None
    assert looks == []


@pytest.mark.parametrize("fault", [RpcFault("away"), NodeError(-32000, "no")])
def test_a_node_that_is_away_forbids_nothing(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet, fault: Exception
) -> None:
    def look(_: Wallet) -> None:
        raise fault

    monkeypatch.setattr(permissions, "look", look)
    waited(wallet)
    assert broadcast._look_again(wallet.pk) is None


class Granted:
    def __init__(self, lacking: tuple[Reason, str] | None) -> None:
        self.lacking = lacking

    def missing(self, collateral_usdc: object) -> tuple[Reason, str] | None:
        assert collateral_usdc == 5
        return self.lacking


LACKS = Granted((Reason.NO_DELEGATION, "it ended"))


def test_only_an_open_that_never_left_is_held_against_what_the_trader_permits() -> None:
    def order(action: str = "open", state: str = "signed") -> TxIntent:
        return TxIntent(action=action, state=state, collateral_usdc=5)

    def forbidden(intent: TxIntent, granted: Granted | None = LACKS) -> bool:
        return broadcast._is_forbidden(intent, granted)  # type: ignore[arg-type]

    assert forbidden(order()) is True
    assert forbidden(order(), Granted(None)) is False
    assert forbidden(order(), None) is False
    assert forbidden(order("close")) is False
    assert forbidden(order("increase")) is False
    assert forbidden(order(state="sending")) is False


# One slot


def let_go(
    monkeypatch: pytest.MonkeyPatch,
    departure: Departure,
    *,
    kind: SendKind = SendKind.EXEC,
    market: fees.Market | None = MARKET,
    granted: object = None,
    signs: Callable[[], Any] = lambda: "a cancel",
    **fields: object,
) -> tuple[str, list[str]]:
    """What leaves of a signed open with these fields, and why cancels were signed."""
    intent = TxIntent(**({"action": "open", "state": "signed", "collateral_usdc": 5} | fields))
    send, why = TxSend(intent=intent, kind=kind), []

    def cancel_in_slot(cancelled: TxIntent, at: object, **because: str) -> Any:
        assert (cancelled, at) == (intent, MARKET)
        why.append(because["why"])
        return signs()

    answer(monkeypatch, departure)
    monkeypatch.setattr(broadcast, "cancel_in_slot", cancel_in_slot)
    left = broadcast._let_go(send, LIVE, NOW, market, granted)  # type: ignore[arg-type]
    return ("the bytes" if left is send else str(left)), why


NOW = datetime(2026, 1, 1, tzinfo=UTC)
Left = tuple[str, list[str]]
AS_ASKED: Left = ("the bytes", [])
CANCELLED: Left = ("a cancel", ["it may no longer leave"])
STAYS: Left = ("None", [])


@pytest.mark.parametrize(
    ("departure", "fields", "left"),
    [
        (Departure.LEAVE, {}, AS_ASKED),
        (Departure.PARK, {}, STAYS),
        (Departure.CANCEL, {}, CANCELLED),
        (Departure.CANCEL, {"market": None}, STAYS),
        (Departure.CANCEL, {"kind": SendKind.CANCEL}, AS_ASKED),
        (Departure.CANCEL, {"kind": SendKind.CANCEL, "market": None}, AS_ASKED),
        (Departure.CANCEL, {"kind": SendKind.BUMP}, CANCELLED),
        # A person wants it gone, under a stop, too; a close that was called off waits for the stop's end.
        (Departure.LEAVE, {"cancel_asked_at": LONG_AGO}, CANCELLED),
        (Departure.PARK, {"cancel_asked_at": LONG_AGO}, CANCELLED),
        (Departure.LEAVE, {"cancel_asked_at": LONG_AGO, "action": "close"}, CANCELLED),
        (Departure.PARK, {"cancel_asked_at": LONG_AGO, "action": "close"}, STAYS),
        (Departure.PARK, {"cancel_asked_at": LONG_AGO, "action": "margin"}, CANCELLED),
        (Departure.CANCEL, {"cancel_asked_at": LONG_AGO, "action": "close"}, CANCELLED),
        # What the trader permits no more; a stop decides before that.
        (Departure.LEAVE, {"granted": LACKS}, CANCELLED),
        (Departure.LEAVE, {"granted": Granted(None)}, AS_ASKED),
        (Departure.PARK, {"granted": LACKS}, STAYS),
    ],
)
def test_a_slot_leaves_stays_or_is_filled(
    monkeypatch: pytest.MonkeyPatch, departure: Departure, fields: dict[str, Any], left: tuple[str, list[str]]
) -> None:
    assert let_go(monkeypatch, departure, **fields) == left


def test_a_cancel_that_cannot_be_signed_keeps_nothing_else_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise Refused("the key is lost")

    assert let_go(monkeypatch, Departure.CANCEL, signs=refuse)[0] == "None"
    assert let_go(monkeypatch, Departure.CANCEL, signs=lambda: None)[0] == "None", "a remote signer is asked"


@pytest.mark.parametrize(("after_s", "expired"), [(None, False), (-1e-6, True), (0.0, True), (1e-6, False)])
def test_what_expires_now_is_expired(
    monkeypatch: pytest.MonkeyPatch, after_s: float | None, *, expired: bool
) -> None:
    asked: list[bool] = []
    answer(monkeypatch, Departure.LEAVE, asked)
    at = None if after_s is None else NOW + timedelta(seconds=after_s)
    send = TxSend(intent=TxIntent(expires_at=at), kind=SendKind.EXEC)
    broadcast._let_go(send, LIVE, NOW, None, None)
    assert asked == [expired]


def test_what_a_stop_parks_is_logged_and_what_the_mode_parks_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, Departure.PARK)
    send = TxSend(intent=TxIntent(pk=4, nonce=3))
    for stopped in (True, False):
        with capture_logs() as lines:
            broadcast._let_go(send, replace(LIVE, emergency_stop=stopped), NOW, None, None)
        said = [(line["event"], line["intent"], line["nonce"]) for line in lines]
        assert said == [("parked: emergency stop", 4, 3)] * stopped
