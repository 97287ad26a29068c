"""What the gateway does wrong on purpose; `GET` and `PUT /rehearsal/faults` show and set it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

ACCEPTED = "MarketOrderAccepted"


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
