"""What the gateway does wrong on purpose; `GET` and `PUT /rehearsal/faults` show and set it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

ACCEPTED = "MarketOrderAccepted"
OK = 200
LEGS = ("core", "pro")


@dataclass
class Faults:
    """Each counter counts down by one request that it spoils; all is well at the start."""

    refuse_next: int = 0  # answer `refuse_status` instead of accepting
    refuse_status: int = 502
    swallow_next: int = 0  # accept, and answer 502 all the same
    drop_next: int = 0  # break the stream off behind the event `drop_after`; blank: before the first one
    drop_after: str = ACCEPTED
    hang_s: float = 0.0  # take a post or a question, and say nothing for so long
    never: bool = False  # accept, and carry nothing out
    delay_s: float = 0.0  # from accepting to carrying out
    double: bool = False  # tell each event twice
    again: bool = False  # take the same bytes for another request when they come again
    mute: bool = False  # know no event when asked for a status
    lie: bool = False  # tell of executions that the chain knows nothing of

    feed_hang_s: float = 0.0  # take a question to the feed or the catalogue, and say nothing for so long
    feed_status: int = OK  # answer them with another status
    core_off_pct: float = 0.0  # prices of that source are off by so many percent
    pro_off_pct: float = 0.0
    core_late_s: float = 0.0  # they were published so long ago; below zero, in the future
    pro_late_s: float = 0.0
    core_gone: bool = False  # that source has no price
    pro_gone: bool = False

    def shown(self) -> dict[str, Any]:
        return asdict(self)

    def set(self, values: Mapping[str, Any]) -> None:
        """Raises ValueError for an unknown name or a value of another kind; nothing is set then."""
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        for name, value in values.items():
            kind = kinds.get(name)
            fits = isinstance(value, int | float) if kind is float else type(value) is kind
            if kind is None or not fits:
                raise ValueError(f"no such fault: {name}={value!r}")
        for name, value in values.items():
            setattr(self, name, value)

    def spend(self, counter: str) -> bool:
        """Whether this request is to be spoilt by that counter, which then has one less."""
        left: int = getattr(self, counter)
        setattr(self, counter, max(0, left - 1))
        return left > 0

    def bent(self, update: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The feed's answer as these faults make it."""
        found = {}
        for leg in LEGS:
            if getattr(self, f"{leg}_gone"):
                continue
            price = (
                Decimal(update[leg]["price"]) * (100 + Decimal(str(getattr(self, f"{leg}_off_pct")))) / 100
            )
            published_ms = update[leg]["publishTimestampMs"] - int(1000 * getattr(self, f"{leg}_late_s"))
            found[leg] = {**update[leg], "price": f"{price:f}", "publishTimestampMs": published_ms}
        return found
