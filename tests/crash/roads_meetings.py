"""Roads on which somebody comes at one moment: a stop at a lease, a watch that hangs, a copy of Redis from before the stop."""

import dataclasses
import json
import time

from django.db.models import QuerySet

from execution_app import tasks
from execution_app.engine import cancels, reserve
from execution_app.gate import control, watch
from execution_app.models import TxSend
from execution_app.states import Origin, RestrictionKind, SendKind
from signals_app.models import SourceGrant
from tests.crash.bench import SOURCE, Bench
from tests.crash.roads_close import FILLED_OR_ENDED
from tests.crash.roads_desks import ask_gateway, stop_and_ask
from tests.crash.roads_open import CANCELLED, open_one
from tests.crash.scenario import FILLED, Scenario, one_of
from tests.timers import pass_a_minute

LEASED = "execution_app.engine.broadcast:_lease:commit"
LETTER_LEASED = "execution_app.engine.gateway.posting:_lease:commit"
OFFERED = "execution_app.engine.offers:_ask_endpoints:request offer"
LATE_S = 60.0
OTHER_SOURCE = SOURCE.title()  # the same, but for the case
FULL = "txpool is full"


def _reserved(bench: Bench) -> None:
    bench.accept()
    bench.look()
    reserve.reserve(bench.rig.wallet.pk)


def _resume_post(bench: Bench) -> None:
    bench.resume()
    bench.look()
    bench.post("one")


def _go_on(bench: Bench) -> None:
    bench.await_helpers()
    bench.age()
    bench.track()
    bench.resume()
    bench.submit()
    bench.live_on()


def _stop_meets_lease(bench: Bench) -> None:
    """The gate has let a slot go and that is not committed yet: the stop waits for it, and names it."""
    _reserved(bench)
    bench.meet(f"before {LEASED}", bench.stop)
    bench.submit()
    _go_on(bench)


def _stop_meets_offer(bench: Bench) -> None:
    """The slot is leased and the node not asked yet."""
    _reserved(bench)
    bench.meet(f"before {OFFERED}", bench.stop)
    bench.submit()
    _go_on(bench)


def _lease_is_slept_through(bench: Bench) -> None:
    """Whoever leased it was away for longer than the lease: a stop that came meanwhile waits for nobody."""
    _reserved(bench)
    _submit_asleep(bench, LEASED)
    _go_on(bench)


def _submit_asleep(bench: Bench, leased: str) -> None:
    """From the commit of this lease on until a stop has come, and longer than the lease."""
    clock = time.monotonic

    def sleep() -> None:
        time.monotonic = lambda: clock() + LATE_S

    bench.meet(f"after {leased}", pass_a_minute, bench.stop, meanwhile=sleep)
    bench.submit()
    time.monotonic = clock
    bench.look()


def _letter_lease_is_slept_through(bench: Bench) -> None:
    """Whoever leased a message was away for longer than the lease, and nobody lifts the stop that came meanwhile: it stays here."""
    ask_gateway(bench)
    _submit_asleep(bench, LETTER_LEASED)
    bench.await_helpers()
    bench.age()
    bench.sweep()
    bench.live_on()


def _watch_hangs(bench: Bench) -> None:
    """Nobody has looked at the mode for long: whatever it was, this process is in DRY."""
    _reserved(bench)
    watcher = watch._watch
    assert watcher is not None
    assert watcher.snapshot is not None
    bench.steer("note", "dry", [])
    watcher.snapshot = dataclasses.replace(watcher.snapshot, taken_at_s=time.monotonic() - 3_600)
    tasks.submit(bench.rig.wallet.pk)
    bench.open_gate()
    bench.submit()
    bench.live_on()


def _gate_post(bench: Bench) -> None:
    bench.open_gate()
    bench.post("one")


def _track_without(bench: Bench, sends: QuerySet[TxSend]) -> None:
    """These bytes are given to no node meanwhile, which one had seen and refused before: only we know that they stay here."""
    known = sends.values_list("tx_hash", "last_offered_at")
    before = set(known.all())
    bench.track()
    assert before
    assert set(known.all()) == before, f"I8: offered again, though it stays here: {before}"


def _bump_meets_stop(bench: Bench) -> None:
    """No node has taken the order when a stop comes, nor its replacement when another one does: they stay here.

    What has left is repeated.
    """
    bench.accept()
    bench.steer("refuse", 1, FULL)
    bench.submit()
    bench.stop()
    bench.age()
    _track_without(bench, TxSend.objects.all())
    bench.resume()
    bench.look()
    bench.steer("hold")
    bench.submit()
    bench.age()
    bench.steer("refuse", 1, FULL)
    bench.track()
    bench.stop()
    bench.age()
    _track_without(bench, TxSend.objects.filter(held_at=None))
    bench.steer("release", "all")
    bench.resume()
    bench.look()
    bench.track()
    bench.live_on()


def _release_and_resume(bench: Bench) -> None:
    bench.steer("release", "all")
    _resume_post(bench)


def _say_in_redis(bench: Bench, *, stop: bool) -> None:
    bench.rig.redis.set(watch.KEY, json.dumps({"mode": "LIVE", "emergency_stop": stop}))
    _look_twice(bench)


def _look_twice(bench: Bench) -> None:
    """The first carries a word into the database, the second sees what it became."""
    assert watch._watch is not None
    with bench.aside():
        for _ in range(2):
            watch._watch.look()


def _old_redis(bench: Bench) -> None:
    """Redis comes back from before the stop that was said there, with a word of then: it lifts nothing."""
    _reserved(bench)
    old = bench.rig.redis.get(watch.EPOCH_KEY)
    assert old is not None
    _say_in_redis(bench, stop=True)
    bench.steer("note", "stop", [])
    bench.rig.redis.set(watch.EPOCH_KEY, old)
    _say_in_redis(bench, stop=False)
    bench.open_gate()
    bench.submit()
    bench.age()
    bench.track()
    _lift_in_redis(bench)
    bench.submit()
    bench.live_on()


def _lift_in_redis(bench: Bench) -> None:
    """By somebody who has seen the stop."""
    bench.steer("note", "resume", [])
    _say_in_redis(bench, stop=False)
    bench.open_gate()


def _lift_post(bench: Bench) -> None:
    _lift_in_redis(bench)
    bench.post("one")


def _dry_meets_live_position(bench: Bench) -> None:
    """A close of what is open at the venue comes in DRY: no simulation takes its place."""
    control.impose(RestrictionKind.DRY, Origin.COMMAND, by="crash", reason="crash")
    bench.accept("two", "CLOSE")
    bench.submit()
    _lift_dry(bench)
    bench.age()
    bench.submit()
    bench.live_on()


def _lift_dry(bench: Bench) -> None:
    control.lift(RestrictionKind.DRY, Origin.COMMAND, by="crash", reason="crash")
    bench.open_gate()


def _lift_and_post(bench: Bench) -> None:
    _lift_dry(bench)
    bench.post("two", "CLOSE")


def _held_then_closed(bench: Bench) -> None:
    """Who asks to be out wants nothing opened that was held before."""
    bench.post("one")
    bench.flush()
    bench.decide("one")
    bench.submit()
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.open_gate()
    bench.age()
    bench.submit()
    bench.live_on()


def _post_held(bench: Bench) -> None:
    bench.open_gate()
    bench.post("one")
    bench.post("two", "CLOSE")


def _grant_other(_: Bench) -> None:
    mine = SourceGrant.objects.get(source=SOURCE)
    SourceGrant.objects.create(source=OTHER_SOURCE, tg_user_id=mine.tg_user_id)


def _post_alike(bench: Bench) -> None:
    bench.post("one")
    bench.post("one", source=OTHER_SOURCE)
    bench.post("ONE")


def _alike(bench: Bench) -> None:
    """Ids that differ in their source or their case alone are three orders."""
    _post_alike(bench)
    bench.age()
    bench.sweep_signals()
    bench.submit()
    bench.live_on()


def _answer_lost_then_stop(bench: Bench) -> None:
    """A node has it and said nothing: the stop names what may have left, and what comes of it is followed all the same."""
    bench.steer("hold")
    bench.accept()
    bench.steer("lose", 1)
    bench.submit()
    imposed = bench.stop()
    offered = set(TxSend.objects.values_list("tx_hash", flat=True))
    assert offered <= set(imposed.in_flight), f"I8: a stop that names {imposed.in_flight} of {offered}"
    bench.steer("release", "all")
    bench.live_on()
    assert bench.is_done(), "stuck, I10: what was mined under a stop is not followed"
    bench.resume()


def _cancel_refused(bench: Bench) -> None:
    """No node takes the cancel at first, and the order is in no pool any more: it is not given to one again."""
    bench.steer("hold")
    bench.accept()
    bench.submit()
    cancels.request(by="crash")
    bench.steer("refuse", 9, FULL)
    bench.track()
    bench.steer("release", "none")
    for _ in range(2):
        bench.age()
        _track_without(bench, TxSend.objects.exclude(kind=SendKind.CANCEL))
    bench.steer("refuse", 0, FULL)
    bench.age()
    bench.track()
    bench.live_on()


def _cancel_and_release(bench: Bench) -> None:
    cancels.request(by="crash")
    bench.steer("release", "all")
    bench.post("one")


ROADS = [
    Scenario("stop meets lease", _stop_meets_lease, _resume_post, {"one": FILLED}, left=1),
    Scenario("stop meets offer", _stop_meets_offer, _resume_post, {"one": FILLED}, left=1),
    Scenario("lease slept through", _lease_is_slept_through, _resume_post, {"one": FILLED}, left=1),
    Scenario("watch hangs", _watch_hangs, _gate_post, {"one": FILLED}, left=1),
    Scenario(
        "bump refused, then a stop",
        _bump_meets_stop,
        _release_and_resume,
        {"one": FILLED},
        left=1,
        replaced=("bump",),
    ),
    Scenario("older copy of Redis", _old_redis, _lift_post, {"one": FILLED | one_of("rejected")}),
    Scenario(
        "DRY meets a LIVE position",
        _dry_meets_live_position,
        _lift_and_post,
        {"one": FILLED, "two": FILLED},
        before=open_one,
        left=0,
        mode="",
    ),
    Scenario(
        "held, then closed",
        _held_then_closed,
        _post_held,
        {"one": FILLED_OR_ENDED, "two": FILLED | one_of("no_op"), "two#2?": FILLED | one_of("no_op")},
        left=0,
        alone={"one": one_of("rejected:superseded_by_close"), "two": one_of("no_op")},
    ),
    Scenario(
        "ids that look alike",
        _alike,
        _post_alike,
        {"one": FILLED, "ONE": FILLED, f"sig:{OTHER_SOURCE}:one": FILLED},
        before=_grant_other,
        left=3,
    ),
    Scenario(
        "answer lost, then a stop", _answer_lost_then_stop, _release_and_resume, {"one": FILLED}, left=1
    ),
    Scenario(
        "gateway lease slept through",
        _letter_lease_is_slept_through,
        stop_and_ask,
        {"desk:one": one_of("rejected", "signed", "sending", "pending", "held", "lapsed")},
        finished=False,
        left=0,
        alone={"desk:one": one_of("sending")},
    ),
    Scenario(
        "cancel refused",
        _cancel_refused,
        _cancel_and_release,
        {"one": FILLED | CANCELLED},
        alone={"one": one_of("final_cancelled")},
    ),
]
