"""Which deeds the page of a row, or of a list, leads to."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.urls import reverse

from execution_app.models import Cap, Position, Trader, TxIntent
from ops.panel.deeds import gate, intents, people, positions, signals, sources
from ops.panel.deeds.deed import Deed, User
from signals_app.models import Signal, SourceGrant, SourceSecret


@dataclass(frozen=True)
class Offer:
    title: str
    href: str


_OF_ROWS: dict[type[Model], tuple[Deed, ...]] = {
    TxIntent: intents.DEEDS,
    Position: (
        *(positions.Close(), positions.Halve(), positions.Increase()),
        *(positions.Deposit(), positions.Withdraw()),
    ),
    Cap: (gate.LiftCap(),),
    SourceSecret: (sources.Retire(),),
    SourceGrant: (sources.Revoke(),),
    Signal: signals.DEEDS,
}
_OF_LISTS: dict[type[Model], tuple[Deed, ...]] = {
    Position: (positions.Flatten(),),
    Cap: (gate.SetCap(),),
    SourceSecret: (sources.Rotate(),),
    SourceGrant: (sources.Grant(),),
    Trader: people.DEEDS,
}


def of_row(user: User, row: Any) -> list[Offer]:
    """What this person can do about it now; what stands in the way is not offered."""
    target = row.intent_key if isinstance(row, TxIntent) else str(row.pk)
    found = []
    for deed in _OF_ROWS.get(type(row), ()):
        if not deed.offered(user):
            continue
        subject = deed.look(target)
        if not subject.obstacle and deed.permits(user, subject):
            found.append(Offer(deed.title, reverse("panel:deed", args=[deed.name, target])))
    return found


def of_list(user: User, model: type[Model]) -> list[Offer]:
    deeds = _OF_LISTS.get(model, ())
    return [
        Offer(deed.title, reverse("panel:deed", args=[deed.name])) for deed in deeds if deed.offered(user)
    ]
