"""Every row that the invariants speak of, read once: they are asked after each of thousands of trials."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.db import connection, transaction
from django.db.models import Sum

from execution_app.models import (
    Correction,
    Fill,
    IntentTransition,
    MarginChange,
    Position,
    Reservation,
    RiskLog,
    TxIntent,
    TxReceipt,
    TxSend,
    VenueOrder,
    Wallet,
)
from execution_app.states import Action


@dataclass
class Book:
    """Rows in the order of their keys; those of an intent hold the one object of it, and so on."""

    wallets: dict[int, Wallet]
    intents: dict[int, TxIntent]
    sends: list[TxSend]
    receipts: list[TxReceipt]  # canonical ones
    orders: dict[int, VenueOrder]  # by intent
    moves: list[IntentTransition]
    positions: dict[int, Position]
    fills: list[Fill]
    reservations: list[Reservation]
    corrections: dict[int, list[Correction]]  # by position
    margins: dict[int, list[MarginChange]]  # by position
    logged_usdc: dict[str, Decimal]  # what the log of stakes adds up to, by mode
    fill_of: dict[int, Fill] = field(init=False)  # by intent, as the next one
    margin_of: dict[int, MarginChange] = field(init=False)

    def __post_init__(self) -> None:
        for intent in self.intents.values():
            if intent.wallet_id is not None:
                intent.wallet = self.wallets[intent.wallet_id]
        of_intents: list[Iterable[Any]] = [self.sends, self.receipts, self.orders.values(), self.moves]
        for row in (one for rows in [*of_intents, self.fills, self.reservations] for one in rows):
            if row.intent_id is not None:  # what the venue ended by itself has none
                row.intent = self.intents[row.intent_id]
        sends = {send.pk: send for send in self.sends}
        for receipt in self.receipts:
            receipt.send = sends[receipt.send_id]
        for fill in self.fills:
            fill.position = self.positions[fill.position_id]
        self.fill_of = {fill.intent_id: fill for fill in self.fills if fill.intent_id is not None}
        changes = [row for rows in self.margins.values() for row in rows]
        self.margin_of = {row.intent_id: row for row in changes if row.intent_id is not None}

    def of_wallet(self, wallet: Wallet) -> list[TxIntent]:
        return [intent for intent in self.intents.values() if intent.wallet_id == wallet.pk]

    def increases_of(self, position_id: int) -> list[Fill]:
        return [one for one in self.fills if one.position_id == position_id and one.action == Action.INCREASE]

    def closes_of(self, position_id: int) -> list[Fill]:
        return [one for one in self.fills if one.position_id == position_id and one.action == Action.CLOSE]


def read() -> Book:
    """As it is now, at one moment."""
    with transaction.atomic():
        if not connection.savepoint_ids:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return _read()


def _read() -> Book:
    corrections: dict[int, list[Correction]] = defaultdict(list)
    for row in _all(Correction):
        corrections[row.position_id].append(row)
    margins: dict[int, list[MarginChange]] = defaultdict(list)
    for change in _all(MarginChange):
        margins[change.position_id].append(change)
    logged = RiskLog.objects.order_by().values_list("mode").annotate(usdc=Sum("change_usdc"))
    return Book(
        wallets={row.pk: row for row in Wallet.objects.select_related("trader")},
        intents={row.pk: row for row in _all(TxIntent)},
        sends=_all(TxSend),
        receipts=[row for row in _all(TxReceipt) if row.canonical],
        orders={row.intent_id: row for row in _all(VenueOrder)},
        moves=_all(IntentTransition),
        positions={row.pk: row for row in _all(Position)},
        fills=_all(Fill),
        reservations=_all(Reservation),
        corrections=corrections,
        margins=margins,
        logged_usdc=dict(logged),
    )


def _all(model: Any) -> list[Any]:
    """As `model.objects.order_by("id")` would, without making the same statement anew each time."""
    sql, names, compiler, converters = _statement(model)
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
    if converters:
        rows = compiler.apply_converters(rows, converters)
    return [model.from_db(connection.alias, names, row) for row in rows]


@lru_cache(maxsize=32)
def _statement(model: Any) -> tuple[str, list[str], Any, dict[int, Any]]:
    """The SQL, the names of its columns' attributes, and what turns its rows into values."""
    compiler = model.objects.order_by("id").query.get_compiler(connection=connection)
    sql, parameters = compiler.as_sql()
    assert not parameters
    expressions = [expression for expression, _, _ in compiler.select]
    names = [expression.target.attname for expression in expressions]
    return sql, names, compiler, compiler.get_converters(expressions)
