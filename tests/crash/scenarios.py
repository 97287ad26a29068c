"""Roads to die on. Each is walked by one process and finished by others."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models.functions import Now

from execution_app.engine import reserve
from execution_app.gate import control
from execution_app.models import TxIntent
from execution_app.states import Origin, RestrictionKind
from tests.crash.bench import Bench


def _nothing(_: Bench) -> None:
    """Nothing is needed beforehand."""


@dataclass(frozen=True)
class Scenario:
    """`before` is not counted; `again` is what the world outside repeats before each round of recovery.

    `executions` counts from the chain's blocks; `ends` are the states that intents may end in.
    """

    name: str
    walk: Callable[[Bench], None]
    again: Callable[[Bench], None]
    executions: int
    ends: frozenset[str]
    before: Callable[[Bench], None] = _nothing


FILLED = frozenset({"filled"})


def _accept(bench: Bench, signal_id: str = "one", side: str = "LONG") -> None:
    bench.post(signal_id, side)
    bench.decide(signal_id)


def _open(bench: Bench) -> None:
    _accept(bench)
    bench.submit()
    bench.live_on()


def _post_open(bench: Bench) -> None:
    bench.post("one")


def _close(bench: Bench) -> None:
    _accept(bench, "two", "CLOSE")
    bench.submit()
    bench.live_on()


def _bump(bench: Bench) -> None:
    """The node keeps the first bytes to itself, a replacement is sent, and the first are mined after all."""
    bench.proxy_call("proxy_hold")
    _accept(bench)
    bench.submit()
    bench.age()
    bench.track()
    bench.proxy_call("proxy_release", "first")
    bench.live_on()


def _release_first(bench: Bench) -> None:
    bench.proxy_call("proxy_release", "first")
    bench.rig.mine()
    bench.post("one")


def _cancel(bench: Bench) -> None:
    """Reduce-only comes between signature and first broadcast: the slot is filled by a cancel."""
    _accept(bench)
    reserve.reserve(bench.rig.wallet.pk)
    _reduce_only(bench)
    bench.submit()
    bench.live_on()


def _reduce_only(_: Bench) -> None:
    control.impose(RestrictionKind.REDUCE_ONLY, Origin.COMMAND, by="test", reason="crash")


def _post_reduced(bench: Bench) -> None:
    _reduce_only(bench)
    bench.post("one")


def _expire(bench: Bench) -> None:
    """Max lag passes between signature and first broadcast."""
    _accept(bench)
    reserve.reserve(bench.rig.wallet.pk)
    _lag()
    bench.submit()
    bench.live_on()


def _lag() -> None:
    TxIntent.objects.filter(settled_at=None).update(expires_at=Now() - timedelta(seconds=1))


def _post_expired(bench: Bench) -> None:
    bench.post("one")
    bench.sweep_signals()
    _lag()


def _lost(bench: Bench) -> None:
    """The node takes the bytes and nobody hears of it."""
    _accept(bench)
    bench.proxy_call("proxy_lose", 1)
    bench.submit()
    bench.live_on()


OPEN = Scenario("open", _open, _post_open, 1, FILLED)
CLOSE = Scenario("close", _close, lambda bench: bench.post("two", "CLOSE"), 2, FILLED, before=_open)
BUMP = Scenario("bump", _bump, _release_first, 1, FILLED)
CANCEL = Scenario("cancel", _cancel, _post_reduced, 0, frozenset({"rejected", "final_cancelled"}))
EXPIRE = Scenario("expire", _expire, _post_expired, 0, frozenset({"expired", "final_cancelled"}))
LOST = Scenario("lost answer", _lost, _post_open, 1, FILLED)
