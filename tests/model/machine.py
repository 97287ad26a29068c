"""Every move of the laboratory in any order, against a model of what may have become of each wish."""

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.laboratory import REDUCE_ONLY, STOP, Laboratory
from tests.proxy import Proxy
from tests.rig import rpc_call
from tests.timers import pass_a_minute

SYMBOLS = st.sampled_from(["BTC-USD", "ETH-USD"])


class Machine(RuleBasedStateMachine):
    node: ClassVar[Proxy]

    @initialize()
    def build(self) -> None:
        self.lab = Laboratory(self.node)

    @rule(symbol=SYMBOLS)
    def signal(self, symbol: str) -> None:
        self.lab.ask(self.lab.expected.wish(symbol))

    @precondition(lambda self: self.lab.expected.wishes)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.lab.expected.wishes)))
        self.lab.ask(self.lab.expected.wishes[key])

    @rule(symbol=SYMBOLS, part=st.sampled_from([None, None, 50]))
    def close(self, symbol: str, part: int | None) -> None:
        self.lab.ask_to_close(symbol, part)

    @rule()
    def submit(self) -> None:
        self.lab.submit()

    @rule(blocks=st.integers(1, 3))
    def mine(self, blocks: int) -> None:
        self.lab.rig.mine(blocks)

    @rule()
    def track(self) -> None:
        self.lab.track()

    @rule()
    def keep(self) -> None:
        self.lab.rig.keep()

    @rule()
    def go_all_the_way(self) -> None:
        self.lab.submit()
        self.lab.rig.mine()
        self.lab.track()
        self.lab.rig.keep()
        self.lab.track()

    @rule()
    def compare(self) -> None:
        self.lab.compare()

    @rule(kind=st.sampled_from([STOP, REDUCE_ONLY]))
    def impose(self, kind: object) -> None:
        self.lab.impose(kind)  # type: ignore[arg-type]

    @rule(kind=st.sampled_from([STOP, REDUCE_ONLY]))
    def lift(self, kind: object) -> None:
        self.lab.lift(kind)  # type: ignore[arg-type]

    @rule()
    def flush(self) -> None:
        self.lab.flush()

    @rule(depth=st.integers(1, 2))
    def reorganise(self, depth: int) -> None:
        self.lab.reorganise(depth)

    @rule(ahead=st.integers(0, 1))
    def spend_elsewhere(self, ahead: int) -> None:
        self.lab.spend_elsewhere(ahead)

    @rule()
    def pass_time(self) -> None:
        pass_a_minute()

    @rule(seconds=st.integers(1, 60))
    def move_the_chains_clock(self, seconds: int) -> None:
        rpc_call("evm_increaseTime", seconds)

    @rule(count=st.integers(1, 2))
    def lose_answers(self, count: int) -> None:
        self.lab.node.faults.lose_next = count

    @rule()
    def hold(self) -> None:
        self.lab.node.hold()

    @rule(which=st.sampled_from(["all", "first", "none"]))
    def release(self, which: str) -> None:
        self.lab.node.release(which)

    @rule()
    def keep_copy(self) -> None:
        self.lab.keep_copy()

    @precondition(lambda self: self.lab.has_copy)
    @rule()
    def restore(self) -> None:
        self.lab.restore()

    @rule()
    def decide(self) -> None:
        self.lab.decide()

    def teardown(self) -> None:
        if not hasattr(self, "lab"):
            return
        try:
            self.lab.check(drained=False)
            self.lab.drain()
            self.lab.check(drained=True)
        finally:
            self.lab.close()
