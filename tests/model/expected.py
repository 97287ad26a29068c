"""What was asked for, and what may have become of it: no database, no chain, no engine."""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

FIRST_UNITS = 5_000_000
ENDS_UNEXECUTED = {
    "rejected",
    "expired",
    "no_op",
    "simulated",
    "final_reverted",
    "final_cancelled",
    "lost_nonce",
    "lapsed",
}


@dataclass(frozen=True)
class Wish:
    """An open asks for an amount that no other asks for, so a log on the chain names it."""

    key: str
    symbol: str
    amount_usdc: Decimal


@dataclass
class Expected:
    """`gone` are keys whose rows a restore took away, which their senders may or may not have repeated."""

    wishes: dict[str, Wish] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def wish(self, symbol: str) -> Wish:
        number = len(self.wishes)
        made = Wish(f"sig:model:{number}", symbol, Decimal(FIRST_UNITS + number) / 10**6)
        self.wishes[made.key] = made
        return made

    def check(self, rows: dict[str, tuple[str, str]], registered: Counter[Decimal]) -> None:
        """`rows` are (state, reason) by key, `registered` the canonical chain's opening orders by amount."""
        unknown = registered.keys() - {wish.amount_usdc for wish in self.wishes.values()}
        assert not unknown, f"the chain has orders that nobody asked for: {unknown}"
        for wish in self.wishes.values():
            times = registered[wish.amount_usdc]
            assert times <= 1, f"{wish.key} was executed {times} times"
            if wish.key not in rows:
                assert wish.key in self.gone, f"{wish.key} was asked for and is gone"
                continue
            state, reason = rows[wish.key]
            if state in ("filled", "venue_cancelled"):
                assert times == 1, f"{wish.key} is {state}, and the chain has no such order"
            if state in ENDS_UNEXECUTED and reason != "may_be_executed":
                assert times == 0, f"{wish.key} is {state}, and the chain has its order"
            if state == "held" and wish.key not in self.gone:  # else it is asked again, behind its own order
                assert times == 0, f"{wish.key} is held, and the chain has its order"
