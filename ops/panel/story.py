"""What became of one signal or intent, as steps in the order of time; made from the trace that the API answers with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q

from execution_app.models import AuditEntry, TxIntent
from execution_app.states import IntentState
from ops.panel import words
from ops.panel.home.box import BAD, GOOD, WARN
from signals_app import trace
from signals_app.models import Signal

Json = Mapping[str, Any]
# How far around the story the audit log is read, and how much of it is shown.
AROUND = timedelta(minutes=1)
AUDIT_SHOWN = 50
_UNITS = {
    **dict.fromkeys(("collateral_usdc", "reduce_usdc", "deposit_usdc", "withdraw_usdc"), "USDC"),
    **dict.fromkeys(("take_profit", "stop_loss", "limit_price"), "USD"),
    **dict.fromkeys(("slippage_pct", "reduce_pct"), "%"),
    "max_lag_s": "s",
}
TONES = {
    IntentState.FILLED: GOOD,
    IntentState.CHANGED: GOOD,
    IntentState.SIMULATED: GOOD,
    IntentState.HELD: WARN,
    IntentState.EXPIRED: WARN,
    IntentState.REJECTED: WARN,
    IntentState.VENUE_CANCELLED: WARN,
    IntentState.FINAL_CANCELLED: WARN,
    IntentState.FINAL_REVERTED: BAD,
    IntentState.LOST_NONCE: BAD,
}


@dataclass(frozen=True)
class Step:
    """Something that happened: when, what, why, and the facts that go with it."""

    at: datetime
    title: str
    why: str = ""
    tone: str = ""
    tx_hash: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Story:
    """One intent's road, or a signal's without one. `intent` is None where nothing was to be done."""

    key: str
    intent: Json | None
    steps: tuple[Step, ...]
    position: Json | None = None
    reservation: Json | None = None


@dataclass(frozen=True)
class Found:
    """A signal, where one asked, and what it became: one road, or one for each position that a close ended."""

    key: str
    signal: Json | None
    decision: Json | None
    stories: tuple[Story, ...]
    mode: str

    @property
    def began_at(self) -> datetime | None:
        return min((step.at for story in self.stories for step in story.steps), default=None)

    @property
    def ended_at(self) -> datetime | None:
        return max((step.at for story in self.stories for step in story.steps), default=None)


def find(key: str) -> Found | None:
    """By an intent's key, which a signal has from the beginning. None where there is neither."""
    signal = signal_of(key)
    if signal is not None:
        found = trace.build(signal.source, signal.signal_id)
        if found is not None:
            return _of_signal(key, found)
    joined = TxIntent.objects.select_related(
        "wallet", "venue_order", "fill__position", "position", "reservation"
    )
    intent = joined.filter(intent_key=key).first()
    if intent is None:
        return None
    road = trace.road(intent)
    return Found(key, None, None, (_story(key, road),), road["intent"]["mode"] or "")


def signal_of(key: str) -> Signal | None:
    """The signal of an intent's key, whether or not there is such an intent."""
    kind, _, rest = key.partition(":")
    source, _, signal_id = rest.partition(":")
    # The further closes of one signal are told beside its first.
    signal_id = signal_id.partition("#")[0]
    if kind != "sig" or not source or not signal_id:
        return None
    return Signal.objects.filter(source=source, signal_id=signal_id).first()


def _of_signal(key: str, found: Json) -> Found:
    signal, decision = found["signal"], found["decision"]
    first = _story(signal["intent_key"], found, (*_received(signal), *_decided(decision)))
    siblings = (_story(road["intent"]["key"], road) for road in found["siblings"])
    stories = (first, *siblings)
    mode = next((story.intent["mode"] for story in stories if story.intent and story.intent["mode"]), "")
    return Found(key, signal, decision, stories, mode)


def _story(key: str, road: Json, before: tuple[Step, ...] = ()) -> Story:
    parts = (_history, _sends, _receipts, _order, _fill, _position, _reservation)
    steps = [*before, *(step for part in parts for step in part(road))]
    # Of one moment the order of the road stays, since sorting keeps it.
    return Story(
        key,
        road["intent"],
        tuple(sorted(steps, key=lambda step: step.at)),
        road["position"],
        road["reservation"],
    )


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _usdc(text: str | None) -> str:
    return "not known" if text is None else words.grouped(Decimal(text), "USDC")


def _received(signal: Json) -> Iterator[Step]:
    shown = ("symbol", "side", "collateral_usdc", "leverage_x", "slippage_pct", "reduce_usdc", "reduce_pct",
             "take_profit", "stop_loss", "order_type", "limit_price", "changes", "deposit_usdc", "withdraw_usdc", "max_lag_s", "ts", "body_sha256")  # fmt: skip
    facts = tuple((name, _asked(name, signal[name])) for name in shown if signal[name] is not None)
    sender = f"source {signal['source']} for Telegram id {signal['tg_user_id']}"
    yield Step(_at(signal["received_at"]), "Body received and stored", sender, facts=facts)


def _asked(name: str, value: object) -> str:
    """What the body said of this field, its number as people read it."""
    if name == "leverage_x":
        return f"{words.grouped(Decimal(str(value)))}x"
    unit = _UNITS.get(name)
    return str(value) if unit is None else words.grouped(Decimal(str(value)), unit)


def _decided(decision: Json) -> Iterator[Step]:
    if decision["decided_at"] is None:
        return
    why = ", ".join(str(reason) for reason in decision["reasons"])
    tone = WARN if decision["decision"] == "rejected" else ""
    yield Step(_at(decision["decided_at"]), f"Decided: {decision['decision']}", why, tone)


def _history(road: Json) -> Iterator[Step]:
    if road["history_archive"] is not None:
        yield Step(
            _at(road["intent"]["settled_at"]), "Settled; its moves are archived", road["history_archive"]
        )
    for move in road["history"]:
        title = (
            f"{move['from_state']} → {move['to_state']}"
            if move["from_state"]
            else f"Intent {move['to_state']}"
        )
        facts = (("by", move["by"]),)
        tone = TONES.get(move["to_state"], "")
        yield Step(_at(move["at"]), title, move["why"], tone, facts=facts)


def _sends(road: Json) -> Iterator[Step]:
    for send in road["sends"]:
        name = f"attempt {send['attempt']} ({send['kind']})"
        fees = (
            ("max fee", words.gwei(int(send["max_fee_wei"]))),
            ("tip", words.gwei(int(send["tip_wei"]))),
            ("nonce", str(road["intent"]["nonce"])),
        )
        yield Step(_at(send["signed_at"]), f"Signed: {name}", tx_hash=send["tx_hash"], facts=fees)
        if send["offered_at"] is None:
            continue
        answer = f"the nodes said {send['outcome']}"
        yield Step(_at(send["offered_at"]), f"First broadcast: {name}", answer, tx_hash=send["tx_hash"])
        if send["offers"] > 1 and send["last_offered_at"] is not None:
            again = f"offered {send['offers']:,} times in all, the last answer was {send['outcome']}"
            at = _at(send["last_offered_at"])
            yield Step(at, f"Last broadcast: {name}", again, tx_hash=send["tx_hash"])


def _receipts(road: Json) -> Iterator[Step]:
    for receipt in road["receipts"]:
        worked = receipt["status"] == 1
        title = f"Mined in block {receipt['block_number']:,}" + ("" if worked else ", reverted")
        why = "" if receipt["canonical"] else "that block has left the chain"
        gas_wei = receipt["gas_used"] * int(receipt["effective_gas_price_wei"]) + int(receipt["l1_fee_wei"])
        facts = (
            ("fee", words.eth(gas_wei)),
            ("gas used", f"{receipt['gas_used']:,}"),
            ("gas price", words.gwei(int(receipt["effective_gas_price_wei"]))),
            ("block hash", receipt["block_hash"]),
        )
        tone = WARN if why else "" if worked else BAD
        yield Step(_at(receipt["seen_at"]), title, why, tone, receipt["tx_hash"], facts)


def _order(road: Json) -> Iterator[Step]:
    order = road["order"]
    if order is not None:
        facts = (("venue", order["venue"]), ("block", f"{order['block_number']:,}"), ("now", order["state"]))
        yield Step(
            _at(order["created_at"]), f"Order {order['order_id']} registered at the venue", facts=facts
        )


def _fill(road: Json) -> Iterator[Step]:
    fill = road["fill"]
    if fill is None:
        return
    facts = (
        ("price", f"{words.grouped(Decimal(fill['price']))} USD"),
        ("collateral", _usdc(fill["collateral_usdc"])),
        ("leverage", f"{words.grouped(Decimal(fill['leverage_x']))}x"),
        ("fee", _usdc(fill["fee_usdc"])),
        *((("sent to trader", _usdc(fill["sent_to_trader_usdc"])),) if fill["action"] == "close" else ()),
    )
    title = f"{fill['mode']} {fill['action']} filled"
    yield Step(_at(fill["filled_at"]), title, "", GOOD, fill["tx_hash"], facts)
    if fill["settled_at"] is not None:
        yield Step(_at(fill["settled_at"]), "Settled: its block is final", tone=GOOD)


def _position(road: Json) -> Iterator[Step]:
    position = road["position"]
    if position is None:
        return
    direction = "LONG" if position["is_long"] else "SHORT"
    name = f"{position['mode']} {position['symbol']} {direction}"
    yield Step(_at(position["opened_at"]), f"Position opened: {name}")
    if position["closed_at"] is not None:
        facts = (("paid out", _usdc(position["paid_out_usdc"])),)
        yield Step(_at(position["closed_at"]), f"Position closed: {name}", position["ended_by"], facts=facts)


def _reservation(road: Json) -> Iterator[Step]:
    held = road["reservation"]
    if held is None:
        return
    yield Step(_at(held["reserved_at"]), f"{_usdc(held['asked_usdc'])} reserved of the caps")
    if held["released_at"] is not None:
        yield Step(_at(held["released_at"]), "Reservation released")


def audit_around(found: Found) -> list[AuditEntry]:
    """Entries of the log from a minute before the first step to a minute after the last one, the oldest first.

    The log is appended to one entry at a time, so its numbers are in the order of
    its times, and the place of a time is found by halving: no index is needed.
    """
    began_at, ended_at = found.began_at, found.ended_at
    if began_at is None or ended_at is None:
        return []
    first = _seq_at(began_at - AROUND)
    keys = [story.key for story in found.stories]
    after = AuditEntry.objects.filter(seq__gte=first).order_by("seq")
    near = list(after.filter(at__lte=ended_at + AROUND)[:AUDIT_SHOWN])
    # What an operator decided about it, however many logins lie between.
    own = Q(subject__in=keys, seq__lte=_seq_at(ended_at + AROUND))
    about = list(after.filter(own)[:AUDIT_SHOWN])
    return sorted({entry.seq: entry for entry in (*near, *about)}.values(), key=lambda entry: entry.seq)


def _seq_at(at: datetime) -> int:
    """The number of the first entry at or after a time; one above the last where there is none."""
    low, high = 1, (AuditEntry.objects.order_by("-seq").values_list("seq", flat=True).first() or 0) + 1
    while low < high:
        middle = (low + high) // 2
        entry_at = AuditEntry.objects.filter(seq=middle).values_list("at", flat=True).first()
        if entry_at is None or entry_at < at:
            low = middle + 1
        else:
            high = middle
    return low
