"""One box that finds a signal or an intent by whatever somebody has at hand. Every question uses an index."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.db.models import Q

from execution_app.models import Fill, Position, Trader, TxIntent, TxSend, Wallet
from execution_app.states import Action
from signals_app import payloads

SHOWN = 20
SOURCES = 1_000  # looked through for one signal id
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
HIGHEST_ID = 2**63 - 1
# From source to source along the unique index of both, since an id alone has none.
_BY_SIGNAL_ID = """
WITH RECURSIVE sources(source) AS (
    (SELECT source FROM signals ORDER BY source LIMIT 1)
    UNION ALL
    SELECT (SELECT s.source FROM signals s WHERE s.source > sources.source ORDER BY s.source LIMIT 1)
    FROM sources WHERE sources.source IS NOT NULL
), few AS (SELECT source FROM sources WHERE source IS NOT NULL LIMIT %(sources)s)
SELECT s.source, s.signal_id FROM few JOIN signals s ON s.source = few.source AND s.signal_id = %(signal_id)s
ORDER BY s.id DESC LIMIT %(shown)s
"""


@dataclass(frozen=True)
class Hit:
    """A key that has a trace, and how it was found."""

    key: str
    how: str


def search(asked: str) -> list[Hit]:
    """Hits of every kind that the words may be, the newest of each kind first, at most SHOWN of a kind."""
    text = asked.strip()
    found: dict[str, Hit] = {}
    for hit in (
        *_by_key(text),
        *_by_hash(text),
        *_by_signal_id(text),
        *_by_address(text),
        *_by_tg_user(text),
    ):
        found.setdefault(hit.key, hit)
    return list(found.values())


def _by_key(text: str) -> Sequence[Hit]:
    if not text.isprintable():
        return []
    keys = TxIntent.objects.filter(intent_key=text).values_list("intent_key", flat=True)
    return [Hit(key, "intent key") for key in keys] or _of_signal_key(text)


def _of_signal_key(text: str) -> Sequence[Hit]:
    """A signal that was rejected has a key and no intent."""
    kind, _, rest = text.partition(":")
    source, _, signal_id = rest.partition(":")
    if kind != "sig" or not payloads.SOURCE.fullmatch(source):
        return []
    return [hit for hit in _by_signal_id(signal_id) if hit.key == text]


def signals_called(text: str) -> Sequence[tuple[str, str]]:
    """Source and id of the signals of this id or this key, the newest first."""
    kind, _, rest = text.partition(":")
    source, _, signal_id = rest.partition(":")
    of_key = [pair for pair in _called(signal_id) if pair[0] == source] if kind == "sig" else []
    return [*of_key, *_called(text)]


def _called(signal_id: str) -> Sequence[tuple[str, str]]:
    if not payloads.SIGNAL_ID.fullmatch(signal_id):
        return []
    with connection.cursor() as cursor:
        cursor.execute(_BY_SIGNAL_ID, {"signal_id": signal_id, "sources": SOURCES, "shown": SHOWN})
        return [(source, found) for source, found in cursor.fetchall()]


def _by_signal_id(text: str) -> Sequence[Hit]:
    return [Hit(f"sig:{source}:{signal_id}", "signal id") for source, signal_id in _called(text)]


def _by_hash(text: str) -> Sequence[Hit]:
    if not _HASH.fullmatch(text):
        return []
    tx_hash = text.lower()
    sends = TxSend.objects.filter(tx_hash=tx_hash).values_list("intent__intent_key", flat=True)
    fills = _orders_of(tx_hash)
    return [*(Hit(key, "transaction") for key in sends), *(Hit(key, "the venue's fill") for key in fills)]


def _orders_of(tx_hash: str) -> Sequence[str]:
    """Keys of the orders that the venue filled there; of what the venue or its owner ended, of the order that opened it."""
    fills = Fill.objects.filter(tx_hash=tx_hash).values_list("intent__intent_key", "position")[:SHOWN]
    opened = {"action": Action.OPEN, "position__in": [position for key, position in fills if key is None]}
    opening = dict(Fill.objects.filter(**opened).values_list("position", "intent__intent_key"))
    keys = [opening.get(position) if key is None else key for key, position in fills]
    return [key for key in keys if key is not None]


def _by_address(text: str) -> Sequence[Hit]:
    if not _ADDRESS.fullmatch(text):
        return []
    spelled = (text, text.lower(), _checksummed(text))
    chain_id: int = settings.ENVIRONMENT.chain_id
    traders = Trader.objects.filter(address__in=spelled)
    owners = Wallet.objects.filter(chain_id=chain_id, address__in=spelled).values("trader")
    return [hit for trader in (*traders, *Trader.objects.filter(pk__in=owners)) for hit in _newest(trader)]


def _checksummed(address: str) -> str:
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def _by_tg_user(text: str) -> Sequence[Hit]:
    if not _NUMBER.fullmatch(text) or int(text) > HIGHEST_ID:
        return []
    return [hit for trader in Trader.objects.filter(tg_user_id=int(text)) for hit in _newest(trader)]


def _newest(trader: Trader) -> Sequence[Hit]:
    """The trader's newest intents: of each symbol by its index, then the newest of these."""
    held = Position.objects.filter(trader=trader, state="open").order_by().values_list("symbol", flat=True)
    symbols = {*settings.ENVIRONMENT.symbols, *held.distinct()}
    of_trader = TxIntent.objects.filter(trader=trader)
    rows = [row for symbol in sorted(symbols)
            for row in of_trader.filter(Q(symbol=symbol)).order_by("-id").values_list("id", "intent_key")[:SHOWN]]  # fmt: skip
    return [Hit(key, f"newest of {trader}") for _, key in sorted(rows, reverse=True)[:SHOWN]]
