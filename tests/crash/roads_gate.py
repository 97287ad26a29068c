"""Roads on which the mode falls and comes back, DRY, and the start of a process."""

import json

from django.conf import settings

from execution_app.engine import held, reconcile, reserve
from execution_app.errors import Stale
from execution_app.gate import control, watch
from execution_app.models import Chain, TxIntent
from execution_app.states import IntentState, Origin, RestrictionKind
from tests.crash.bench import Bench
from tests.crash.roads_open import post_one
from tests.crash.scenario import FILLED, Scenario, one_of
from tests.guards import without_guards

SIMULATED = one_of("simulated")


def _degraded(bench: Bench) -> None:
    """Redis is empty: what comes is held, and goes on when LIVE is back."""
    bench.post("one")
    bench.flush()
    bench.decide("one")
    bench.submit()
    bench.open_gate()
    bench.age()
    bench.submit()
    bench.live_on()


def _degraded_signed(bench: Bench) -> None:
    """The same between nonce and first broadcast: the slot is parked, and leaves when LIVE is back."""
    bench.accept()
    bench.look()
    reserve.reserve(bench.rig.wallet.pk)
    bench.flush()
    bench.submit()
    bench.age()
    bench.track()
    bench.open_gate()
    bench.submit()
    bench.live_on()


def _gate_post(bench: Bench) -> None:
    bench.open_gate()
    bench.post("one")


def _held_too_long(bench: Bench) -> None:
    """Its max lag passes while it is held: nobody wants it to trade when LIVE is back."""
    bench.post("one")
    bench.flush()
    bench.decide("one")
    bench.submit()
    bench.lag()
    bench.open_gate()
    bench.age()
    bench.submit()
    bench.track()


def _gate_lag(bench: Bench) -> None:
    bench.post("one")
    bench.age()
    bench.sweep_signals()
    bench.lag()


def _flush(bench: Bench) -> None:
    """Redis forgets everything between any two steps."""
    bench.accept()
    bench.flush()
    bench.open_gate()
    bench.submit()
    bench.flush()
    bench.live_on()
    bench.flush()
    bench.track()


def _reject_held(bench: Bench) -> None:
    bench.post("one")
    bench.flush()
    bench.decide("one")
    bench.submit()
    _reject(bench)
    bench.open_gate()
    bench.track()


def _reject(_: Bench) -> None:
    for key in TxIntent.objects.filter(state=IntentState.HELD).values_list("intent_key", flat=True):
        try:
            held.reject(key, by="crash", reason="crash")
        except (Stale, TxIntent.DoesNotExist):
            continue


def _post_reject(bench: Bench) -> None:
    bench.post("one")
    _reject(bench)


def go_dry(_: Bench) -> None:
    control.impose(RestrictionKind.DRY, Origin.COMMAND, by="crash", reason="crash")


def _dry(bench: Bench) -> None:
    bench.accept()
    bench.submit()
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.track()


def _dry_slowly(bench: Bench) -> None:
    """The venue's keeper takes its time: one pass registers, another fills."""
    at_once = settings.ENVIRONMENT
    settings.ENVIRONMENT = at_once.model_copy(update={"dry_keeper_delay_ms": 30_000})
    bench.accept()
    bench.submit()
    bench.age()
    bench.submit()
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.age()
    bench.submit()
    settings.ENVIRONMENT = at_once
    bench.track()


def _post_dry(bench: Bench) -> None:
    bench.post("one")
    bench.post("two", "CLOSE")


def _before_boot(bench: Bench) -> None:
    bench.accept()


def _boot(bench: Bench) -> None:
    """A fresh process: its gate is closed until chain and database were compared."""
    bench.steer("note", "dry", [])
    bench.submit()
    bench.open_gate()
    bench.age()
    bench.submit()
    bench.live_on()


def _forget_chain(bench: Bench) -> None:
    """A database that has never seen a chain."""
    bench.post("one")
    with without_guards():
        Chain.objects.all().delete()


def _first_boot(bench: Bench) -> None:
    reconcile._check_venue.cache_clear()
    bench.track()
    _boot(bench)


def _word_in_redis(bench: Bench) -> None:
    """An operator stops by the key in Redis, and lifts it there: what was signed is parked, and leaves."""
    bench.open_gate()
    bench.accept()
    reserve.reserve(bench.rig.wallet.pk)
    _say_in_redis(bench, stop=True)
    bench.submit()
    _say_in_redis(bench, stop=False)
    bench.open_gate()
    bench.age()
    bench.submit()
    bench.live_on()


def _say_in_redis(bench: Bench, *, stop: bool) -> None:
    bench.rig.redis.set(watch.KEY, json.dumps({"mode": "LIVE", "emergency_stop": stop}))
    assert watch._watch is not None
    watch._watch.look()
    watch._watch.look()  # the first puts it into the database and takes its own word back


def _unstop_post(bench: Bench) -> None:
    _say_in_redis(bench, stop=False)
    bench.open_gate()
    bench.post("one")


def _turn_live(bench: Bench) -> None:
    """A close took its position in DRY, the node was away, and meanwhile the mode is LIVE."""
    bench.accept("two", "CLOSE")
    bench.steer("fail", 2)
    bench.submit()
    _lift_dry(bench)
    bench.age()
    bench.submit()
    bench.track()


def _lift_dry(bench: Bench) -> None:
    control.lift(RestrictionKind.DRY, Origin.COMMAND, by="crash", reason="crash")
    bench.open_gate()


def _dry_position(bench: Bench) -> None:
    go_dry(bench)
    bench.accept()
    bench.submit()


def _post_live(bench: Bench) -> None:
    _lift_dry(bench)
    bench.post("two", "CLOSE")


def _disagree(bench: Bench) -> None:
    """The environment names another venue than this database trades on: nobody trades until it is put right."""
    bench.accept()
    right = settings.ENVIRONMENT
    settings.ENVIRONMENT = right.model_copy(update={"venue_trading_address": "0x" + "11" * 20})
    bench.track()
    bench.steer("note", "dry", [])
    bench.submit()
    settings.ENVIRONMENT = right
    bench.look()
    bench.submit()
    bench.steer("note", "live", [])  # from this comparison on a process that has looked often enough is LIVE
    bench.track()
    bench.open_gate()
    bench.age()
    bench.submit()
    bench.live_on()


ROADS = [
    Scenario("degraded, then LIVE", _degraded, _gate_post, {"one": FILLED}, left=1, faults=("lost", "reset")),
    Scenario(
        "signed, then degraded",
        _degraded_signed,
        _gate_post,
        {"one": FILLED},
        left=1,
        faults=("lost", "reset"),
    ),
    Scenario("held too long", _held_too_long, _gate_lag, {"one": one_of("expired")}, left=0),
    Scenario("Redis flushed", _flush, _gate_post, {"one": FILLED}, left=1, faults=("lost", "refused", "5xx")),
    Scenario("held and rejected", _reject_held, _post_reject, {"one": one_of("rejected", "filled")}),
    Scenario(
        "dry",
        _dry,
        _post_dry,
        {"one": SIMULATED, "two": one_of("simulated", "no_op")},
        left=0,
        before=go_dry,
        mode="DRY",
    ),
    Scenario(
        "dry, when the keeper comes",
        _dry_slowly,
        _post_dry,
        {"one": SIMULATED, "two": one_of("simulated", "no_op")},
        left=0,
        before=go_dry,
        mode="DRY",
    ),
    Scenario(
        "boot",
        _boot,
        post_one,
        {"one": FILLED},
        left=1,
        before=_before_boot,
        boots=True,
        faults=("5xx", "reset"),
    ),
    Scenario("first boot", _first_boot, post_one, {"one": FILLED}, left=1, before=_forget_chain, boots=True),
    Scenario("word in Redis", _word_in_redis, _unstop_post, {"one": FILLED | one_of("rejected")}, boots=True),
    Scenario(
        "DRY turns LIVE",
        _turn_live,
        _post_live,
        {"one": SIMULATED, "two": one_of("simulated", "no_op")},
        before=_dry_position,
        mode="",
    ),
    Scenario("chain disagrees", _disagree, _gate_post, {"one": FILLED}, left=1),
]
