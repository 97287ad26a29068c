"""The watch over levels, step by step: which prices count, what is due, and what firing writes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from execution_app.book import feed, liquidation, native_levels, protections, quotes
from execution_app.book.levels import Hit, Levels
from execution_app.engine import level_watch
from execution_app.engine.level_watch import Due, Tick
from execution_app.errors import Retryable
from execution_app.gate import control
from execution_app.models import Position, Protection, ProtectionTrigger, TxIntent
from execution_app.node import rpc
from execution_app.states import RestrictionKind, TriggerKind
from tests.execution import rows
from tests.guards import without_guards

pytestmark = pytest.mark.usefixtures("database")
AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
KIND = TriggerKind.STOP_LOSS


def guarded(take_profit: int | None = None, stop_loss: int | None = None, **fields: Any) -> Protection:
    """Of a long at 60,000 USD; `held` says how its position differs."""
    held: dict[str, Any] = {"trader_id": rows.trader()} | fields.pop("held", {})
    if fields.pop("with_wallet", True):
        rows.wallet(trader_id=held["trader_id"])
    row = {
        "position_id": rows.position(**held),
        "version": 1,
        "is_long": True,
        "set_by": "test",
        "reason": "",
    }
    with without_guards():
        pk = rows.insert("protections", row | {"take_profit": take_profit, "stop_loss": stop_loss} | fields)
    return Protection.objects.select_related("position").get(pk=pk)


def hit(level: str | int | None = 55_000, kind: TriggerKind = KIND) -> Hit:
    return Hit(kind, None if level is None else Decimal(level))


# A look


@dataclass
class Stage:
    """What is known at one look, and what was done with it."""

    kinds: set[RestrictionKind] = field(default_factory=set)
    simulated: set[str] = field(default_factory=set)
    guarded: list[str] = field(default_factory=lambda: ["BTC-USD"])
    fresh: dict[str, Decimal] = field(default_factory=dict)
    ages_s: dict[str, float] = field(default_factory=dict)
    deviating: dict[str, str] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    due: list[Due] = field(default_factory=list)
    problem: Exception | None = None
    done: list[tuple[Any, ...]] = field(default_factory=list)

    def note(self, *what: Any) -> None:
        self.done.append(what)

    def keep(self, symbols: list[str]) -> None:
        self.note("keep", symbols)
        if self.problem:
            raise self.problem

    def carry_out(self, fresh: dict[str, Decimal]) -> int:
        self.note("liquidate", fresh)
        return 3

    def newest(self, symbols: list[str]) -> quotes.Newest:
        self.note("newest", symbols)
        return quotes.Newest(AT, dict(self.fresh), dict(self.ages_s))

    def known(self, symbols: list[str]) -> dict[str, Any]:
        self.note("known", symbols)
        return dict.fromkeys(symbols)

    def found_due(self, known: quotes.Newest) -> list[Due]:
        self.note("due", known.fresh)
        return self.due

    def deviations(self, fresh: dict[str, Decimal]) -> dict[str, str]:
        assert fresh == self.fresh
        return self.deviating

    def names(self) -> list[str]:
        return [name for name, *_ in self.done]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    found = Stage()
    for module, name, does in (
        (control, "active_kinds", lambda: frozenset(found.kinds)),
        (protections, "arm_refused", lambda: found.note("arm")),
        (native_levels, "ask_again", lambda: found.note("native")),
        (liquidation, "simulated_symbols", lambda: set(found.simulated)),
        (protections, "guarded_symbols", lambda: list(found.guarded)),
        (quotes, "keep", found.keep),
        (quotes, "newest", found.newest),
        (feed, "deviating", found.deviations),
        (feed, "known", found.known),
        (feed, "closed", lambda seen: found.closed & set(seen)),
        (protections, "advance", lambda *given: found.note("advance", *given)),
        (liquidation, "carry_out", found.carry_out),
        (level_watch, "_due", found.found_due),
        (level_watch, "_fire", lambda due, _: found.note("fire", due)),
    ):
        monkeypatch.setattr(module, name, does)
    return found


def due(number: int = 7) -> Due:
    return Due(Protection(pk=number, position_id=number), hit(), Decimal(54_000))


def test_a_look_reads_prices_then_judges_all_that_is_guarded(stage: Stage) -> None:
    stage.guarded, stage.simulated = ["SOL-USD", "BTC-USD"], {"ETH-USD", "BTC-USD"}
    stage.fresh = {"BTC-USD": Decimal(1), "ETH-USD": Decimal(2), "SOL-USD": Decimal(3)}
    stage.due = [due(7), due(8)]
    tick = level_watch.watch()
    symbols = ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert stage.done == [
        ("arm",),
        ("native",),
        ("keep", symbols),
        ("newest", symbols),
        *(("advance", symbol, Decimal(n)) for n, symbol in enumerate(symbols, 1)),
        ("liquidate", stage.fresh),
        ("due", stage.fresh),
        *(("fire", one) for one in stage.due),
    ]
    assert (tick.problems, tick.liquidated, tick.fired, tick.wallets) == ([], 3, 0, set())


def test_where_nothing_is_guarded_no_price_is_read(stage: Stage) -> None:
    stage.guarded = []
    assert level_watch.watch() == Tick(fired=0, liquidated=0)
    assert stage.names() == ["arm", "native"]


def test_under_a_stop_prices_move_and_simulated_positions_end_but_nothing_fires(stage: Stage) -> None:
    stage.kinds, stage.simulated = {RestrictionKind.STOP, RestrictionKind.DRY}, {"BTC-USD"}
    stage.fresh, stage.due = {"BTC-USD": Decimal(1)}, [due()]
    assert level_watch.watch().liquidated == 3
    assert stage.names() == ["keep", "newest", "advance", "liquidate"]


def test_nothing_but_a_stop_keeps_levels_from_firing(stage: Stage) -> None:
    stage.kinds, stage.due = {RestrictionKind.DRY, RestrictionKind.REDUCE_ONLY}, [due()]
    assert level_watch.watch().liquidated == 0
    assert stage.names() == ["arm", "native", "keep", "newest", "due", "fire"]


@pytest.mark.parametrize("problem", [rpc.RpcFault("no answer"), rpc.NodeError(-32000, "busy")])
def test_without_new_prices_those_that_are_known_count(stage: Stage, problem: Exception) -> None:
    stage.problem, stage.fresh = problem, {"BTC-USD": Decimal(1)}
    assert level_watch.watch().problems == [f"no new prices: {problem}"]
    assert stage.names()[-2:] == ["advance", "due"]


def test_prices_that_deviate_decide_nothing(stage: Stage) -> None:
    stage.simulated = {"BTC-USD"}
    stage.fresh = {"BTC-USD": Decimal(1), "ETH-USD": Decimal(2)}
    stage.deviating = {"ETH-USD": "ETH-USD is 5 % off"}
    assert level_watch.watch().problems == ["ETH-USD is 5 % off"]
    left = {"BTC-USD": Decimal(1)}
    assert stage.done[-3:] == [("advance", "BTC-USD", 1), ("liquidate", left), ("due", left)]


def test_old_prices_are_told_but_not_those_of_a_market_that_is_closed(stage: Stage) -> None:
    stage.ages_s, stage.closed = {"XAU-USD": 90.0, "BTC-USD": 30.6, "ETH-USD": 45.0}, {"XAU-USD"}
    tick = level_watch.watch()
    assert tick.problems == ["the price of BTC-USD is 31 s old", "the price of ETH-USD is 45 s old"]
    assert ("known", ["BTC-USD", "ETH-USD", "XAU-USD"]) in stage.done
    with pytest.raises(
        Retryable, match=r"^the price of BTC-USD is 31 s old; the price of ETH-USD is 45 s old$"
    ):
        tick.require_whole()


def test_a_whole_look_is_one() -> None:
    Tick().require_whole()
    assert Tick() == Tick(0, 0, set(), [])


@pytest.mark.parametrize("problem", [IntegrityError, DataError])
def test_one_that_the_database_refuses_keeps_no_other_from_firing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, problem: type[Exception]
) -> None:
    stage.due = [due(7), due(8)]

    def fire(one: Due, tick: Tick) -> None:
        if one.protection.pk == 7:
            raise problem("refused")
        tick.fired += 1

    monkeypatch.setattr(level_watch, "_fire", fire)
    tick = level_watch.watch()
    assert (tick.problems, tick.fired) == ([f"position 7: {problem.__name__}"], 1)


def test_a_fault_of_ours_ends_the_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fire(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    stage.due = [due()]
    monkeypatch.setattr(level_watch, "_fire", fire)
    with pytest.raises(RuntimeError):
        level_watch.watch()


# Due


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Versions whose level at the venue is crossed, and those of which it is no more."""
    found: list[list[int]] = []
    monkeypatch.setattr(protections, "note_native", lambda *given: found.extend(given))
    return found


def found_due(price: int | None, at: datetime = AT) -> list[Due]:
    return level_watch._due(quotes.Newest(at, {} if price is None else {"BTC-USD": Decimal(price)}, {}))


def native(crossed: datetime | None = None, **held: Any) -> Protection:
    """Its stop is the venue's own."""
    return guarded(stop_loss=55_000, held={"stop_loss": 55_000} | held, native_crossed_at=crossed)


def test_a_level_of_ours_is_due_at_once(noted: list[list[int]]) -> None:
    row, other = guarded(stop_loss=55_000), guarded(stop_loss=50_000)
    with CaptureQueriesContext(connection) as asked:
        assert found_due(54_000) == [Due(row, hit(), Decimal(54_000), "")]
    assert len(asked) == 1
    assert noted == [[], []]
    assert [one.protection for one in found_due(49_000)] == [row, other]
    assert found_due(56_000) == found_due(None) == []


def test_a_time_needs_no_price(noted: list[list[int]]) -> None:
    row = guarded(closes_at=AT)
    assert found_due(None) == [Due(row, hit(None, TriggerKind.TIME_STOP), None, "")]
    assert found_due(None, AT - timedelta(seconds=1)) == []


def test_a_level_of_the_venues_own_is_first_noted(noted: list[list[int]]) -> None:
    row = native()
    assert (found_due(54_000), noted) == ([], [[row.pk], []])


@pytest.mark.parametrize(
    ("since_s", "held", "missed"),
    [(9, {}, False), (10, {}, True), (11, {}, True), (11, {"missed_at_block": 5}, False)],
)
def test_what_the_venue_missed_is_due(
    noted: list[list[int]], since_s: int, held: dict[str, int], missed: bool
) -> None:
    row = native(AT - timedelta(seconds=since_s), **held)
    words = "the venue did not close at its own level"
    assert found_due(54_000) == [Due(row, hit(), Decimal(54_000), words)] * missed
    assert noted == [[], []]


def test_a_price_that_has_come_back_is_noted(noted: list[list[int]]) -> None:
    row = native(AT - timedelta(hours=1))
    native()
    assert (found_due(56_000), noted) == ([], [[], [row.pk]])


def test_without_a_price_nothing_has_come_back(noted: list[list[int]]) -> None:
    native(AT - timedelta(hours=1))
    assert (found_due(None), noted) == ([], [[], []])


def test_what_is_due_by_our_own_level_waits_for_no_venue(noted: list[list[int]]) -> None:
    """Its take profit is the venue's, and crossed, too."""
    row = guarded(70_000, held={"take_profit": 70_000}, closes_at=AT)
    assert found_due(71_000) == [Due(row, hit(None, TriggerKind.TIME_STOP), Decimal(71_000), "")]
    assert noted == [[], []]


@pytest.mark.parametrize(("mode", "left"), [("LIVE", (None, None)), ("DRY", (70, 50))])
def test_the_venue_watches_its_own_levels_of_live_positions(
    mode: str, left: tuple[int | None, int | None]
) -> None:
    levels = Levels(True, Decimal(60), take_profit=Decimal(70), stop_loss=Decimal(50))
    same = Position(mode=mode, take_profit=Decimal(70), stop_loss=Decimal(50))
    found = level_watch._without_native(levels, same)
    assert (found.take_profit, found.stop_loss) == left
    other = Position(mode=mode, take_profit=Decimal(71), stop_loss=Decimal(51))
    assert level_watch._without_native(levels, other) == levels


@pytest.mark.parametrize(
    ("since", "at_block", "missed"),
    [
        *[(None, None, False), (None, 5, False), (10.0, 5, False), (10.0, None, True), (9.9, None, False)],
        *[(-9.9, None, False), (-3_600.0, None, True), (-3_600.0, 5, False)],
    ],
)
def test_the_venue_has_ten_seconds(since: float | None, at_block: int | None, missed: bool) -> None:
    crossed = None if since is None else AT - timedelta(seconds=since)
    row = Protection(native_crossed_at=crossed, position=Position(missed_at_block=at_block))
    assert level_watch._is_missed(row, AT) is missed


# Fired


def fire(row: Protection, at: Hit | None = None, price: int | None = 54_000, detail: str = "") -> Tick:
    tick = Tick()
    level_watch._fire(Due(row, at or hit(), None if price is None else Decimal(price), detail), tick)
    return tick


def test_a_level_that_fires_asks_for_its_close_once() -> None:
    before = guarded(stop_loss=55_000)
    fire(before)
    row = guarded(stop_loss=55_000, version=3)
    with CaptureQueriesContext(connection) as asked:
        tick = fire(row, hit("55000.0000000001495"), detail="the venue did not close")
    close = TxIntent.objects.get(intent_key=f"tpsl:{row.position_id}:3:stop_loss")
    assert (close.position_id, close.action, close.only_position) == (row.position_id, "close", True)
    assert close.transitions.get().by == "tpsl"
    fired = ProtectionTrigger.objects.get(protection=row)
    assert (fired.intent_id, fired.kind, fired.price) == (close.pk, "stop_loss", 54_000)
    assert (fired.level, fired.detail) == (Decimal("55000.0000000001"), "the venue did not close")
    assert close.wallet_id is not None
    assert tick == Tick(fired=1, wallets={close.wallet_id})
    locked = [query["sql"] for query in asked if "FOR UPDATE" in query["sql"]]
    assert locked[0].endswith('FOR UPDATE OF "protections"')
    assert '"traders"' in locked[0]
    assert fire(row) == Tick()
    assert TxIntent.objects.count() == 2


def test_a_time_has_no_level_and_needs_no_price() -> None:
    row = guarded(closes_at=AT)
    assert fire(row, hit(None, TriggerKind.TIME_STOP), None).fired == 1
    fired = ProtectionTrigger.objects.get()
    assert (fired.kind, fired.level, fired.price, fired.detail) == ("time_stop", None, None, "")


def test_a_version_that_has_ended_does_not_fire() -> None:
    assert fire(guarded(stop_loss=55_000, ended_at=AT)) == Tick()
    assert not TxIntent.objects.exists()


@pytest.mark.parametrize(("state", "ended_by"), [("closed", "close"), ("void", "")])
def test_a_position_that_has_ended_is_not_closed(state: str, ended_by: str) -> None:
    row = guarded(stop_loss=55_000)
    rows.update("positions", row.position_id, {"state": state, "ended_by": ended_by})
    assert fire(row) == Tick()
    assert not TxIntent.objects.exists()


def test_that_there_is_no_wallet_is_told() -> None:
    row = guarded(stop_loss=55_000, with_wallet=False)
    assert fire(row) == Tick(problems=[f"position {row.position_id} has no wallet"])
    assert not ProtectionTrigger.objects.exists()


def test_a_close_is_asked_for_with_its_trigger_or_not_at_all() -> None:
    tick = Tick()
    with pytest.raises(IntegrityError):
        level_watch._fire(Due(guarded(stop_loss=55_000), hit(0), Decimal(54_000)), tick)
    assert (tick, TxIntent.objects.count()) == (Tick(), 0)
