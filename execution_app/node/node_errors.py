"""What a node's words mean, in one table.

Codes differ between clients and mean nothing; texts are matched per known
phrase, from the beginning of a word. Reverts are looked for first, since revert
text can quote anything. That a node holds the bytes, or that their nonce is
consumed, is believed only where the text begins with it, or goes on with it
after a colon: whoever merely talks about known transactions has said nothing.
A text that is not in the table is `unknown`: the same bytes are offered again.
"""

import re
import threading

from execution_app.node.faults import NodeError
from execution_app.states import SendOutcome as Out

# Phrase (lower case) → class, in the order they are looked for. Sources: tests/execution/node_words.py.
PHRASES: tuple[tuple[str, Out], ...] = (
    # These hold a later phrase and mean something else: a block, or somebody who authorised a 7702 transaction.
    ("block already known", Out.UNKNOWN),
    ("authority nonce too low", Out.UNKNOWN),
    ("already known", Out.ALREADY_KNOWN),
    ("existing tx with same hash", Out.ALREADY_KNOWN),
    ("known transaction", Out.ALREADY_KNOWN),
    ("transaction already imported", Out.ALREADY_KNOWN),
    ("already imported", Out.ALREADY_KNOWN),
    ("alreadyknown", Out.ALREADY_KNOWN),
    ("already in the pool", Out.ALREADY_KNOWN),
    ("replacement transaction underpriced", Out.REPLACEMENT_UNDERPRICED),
    ("insufficient gas price to replace existing transaction", Out.REPLACEMENT_UNDERPRICED),
    ("could not replace existing tx", Out.REPLACEMENT_UNDERPRICED),
    ("replacementnotallowed", Out.REPLACEMENT_UNDERPRICED),
    ("nonce too low", Out.NONCE_TOO_LOW),
    ("transaction nonce too low", Out.NONCE_TOO_LOW),
    ("oldnonce", Out.NONCE_TOO_LOW),
    ("nonce too high", Out.NONCE_TOO_HIGH),
    ("noncegap", Out.NONCE_TOO_HIGH),
    ("noncetoofarinfuture", Out.NONCE_TOO_HIGH),
    ("nonce too far in future", Out.NONCE_TOO_HIGH),
    ("gapped-nonce", Out.NONCE_TOO_HIGH),
    ("future transaction tries to replace pending", Out.NONCE_TOO_HIGH),
    ("insufficient funds", Out.INSUFFICIENT_FUNDS),
    ("insufficientfunds", Out.INSUFFICIENT_FUNDS),
    ("sender doesn't have enough funds", Out.INSUFFICIENT_FUNDS),
    ("transaction underpriced", Out.UNDERPRICED),
    ("underpriced", Out.UNDERPRICED),
    ("max fee per gas less than block base fee", Out.UNDERPRICED),
    ("transaction priority fee below minimum required", Out.UNDERPRICED),
    ("transaction gas price below minimum", Out.UNDERPRICED),
    ("is too low for the next block", Out.UNDERPRICED),
    ("feetoolow", Out.UNDERPRICED),
    ("fee too low", Out.UNDERPRICED),
    ("txpool is full", Out.POOL_FULL),
    ("transaction pool is full", Out.POOL_FULL),
    ("pool overflow", Out.POOL_FULL),
    ("account limit exceeded", Out.POOL_FULL),
    ("sub-pool is full", Out.POOL_FULL),
    ("in-flight transaction limit", Out.POOL_FULL),
    ("exceeds block gas limit", Out.INVALID_PERMANENT),
    ("gas limit reached", Out.INVALID_PERMANENT),
    ("gas limit is greater than the block gas limit", Out.INVALID_PERMANENT),
    ("intrinsic gas too low", Out.INVALID_PERMANENT),
    ("intrinsic gas too high", Out.INVALID_PERMANENT),
    ("intrinsicgas", Out.INVALID_PERMANENT),
    ("transaction requires at least", Out.INVALID_PERMANENT),
    ("invalid chain id", Out.INVALID_PERMANENT),
    ("invalid chainid", Out.INVALID_PERMANENT),
    ("invalid sender", Out.INVALID_PERMANENT),
    ("invalid transaction signature", Out.INVALID_PERMANENT),
    ("oversized data", Out.INVALID_PERMANENT),
    ("gas required exceeds allowance", Out.INVALID_PERMANENT),
    ("gaslimitexceeded", Out.INVALID_PERMANENT),
    ("incompatible eip-155", Out.INVALID_PERMANENT),
    ("is bigger than maxfeepergas", Out.INVALID_PERMANENT),
    ("tip above fee cap", Out.INVALID_PERMANENT),
    ("tip higher than fee cap", Out.INVALID_PERMANENT),
    ("max priority fee per gas higher than max fee per gas", Out.INVALID_PERMANENT),
    # What follows is about the provider, not about the transaction: the endpoint rests, another is asked.
    ("rate limit", Out.RPC_FAULT),
    ("request rate exceeded", Out.RPC_FAULT),
    ("request count exceeded", Out.RPC_FAULT),
    ("request limit reached", Out.RPC_FAULT),
    ("too many requests", Out.RPC_FAULT),
    ("compute units per second", Out.RPC_FAULT),
    ("credits limited to", Out.RPC_FAULT),
    ("payment required", Out.RPC_FAULT),
    ("over capacity", Out.RPC_FAULT),
    ("header not found", Out.RPC_FAULT),
    ("header for hash not found", Out.RPC_FAULT),
    ("block not found", Out.RPC_FAULT),
    ("unknown block", Out.RPC_FAULT),
    ("block is out of range", Out.RPC_FAULT),
    ("blockoutofrangeerror", Out.RPC_FAULT),
    ("missing trie node", Out.RPC_FAULT),
    ("backend offline", Out.RPC_FAULT),
    ("no backend is currently healthy", Out.RPC_FAULT),
    ("backend is currently not healthy", Out.RPC_FAULT),
    ("backend returned an invalid response", Out.RPC_FAULT),
    ("bad gateway", Out.RPC_FAULT),
    ("service unavailable", Out.RPC_FAULT),
    ("node is syncing", Out.RPC_FAULT),
    ("transaction indexing is in progress", Out.RPC_FAULT),
    ("must be authenticated", Out.RPC_FAULT),
    ("timeout", Out.RPC_FAULT),
    ("timed out", Out.RPC_FAULT),
)

# The node holds the bytes, or the slot is consumed and receipts will tell by what.
HELD_BY_NODE = frozenset({Out.ACCEPTED, Out.ALREADY_KNOWN, Out.NONCE_TOO_LOW})

# No node holds the bytes, and only a higher fee would change that.
TOO_CHEAP = frozenset({Out.UNDERPRICED, Out.REPLACEMENT_UNDERPRICED})

# Between endpoints the best news wins: one node that holds the bytes is enough.
_BEST_FIRST = (
    Out.ACCEPTED,
    Out.ALREADY_KNOWN,
    Out.NONCE_TOO_LOW,
    Out.REPLACEMENT_UNDERPRICED,
    Out.NONCE_TOO_HIGH,
    Out.UNKNOWN,
    Out.RPC_FAULT,
    Out.POOL_FULL,
    Out.UNDERPRICED,
    Out.INSUFFICIENT_FUNDS,
    Out.INVALID_PERMANENT,
)

READ_LIMIT = 2_000  # characters of a text that are looked at
DISTINCT_LIMIT = 256
_VARYING = re.compile(r"0x[0-9a-f]*|\d+")


def _pattern(phrase: str, outcome: Out) -> re.Pattern[str]:
    begins = r"(?:^|: |\] )" if outcome in HELD_BY_NODE else r"(?<![a-z0-9])"
    return re.compile(begins + re.escape(phrase))


_TABLE = tuple((_pattern(phrase, outcome), outcome) for phrase, outcome in PHRASES)


def classify(error: NodeError) -> Out:
    """The class of a node's refusal of raw bytes."""
    text = error.message[:READ_LIMIT].strip().lower()
    if "revert" in error.message.lower():
        return Out.UNKNOWN
    return next((outcome for pattern, outcome in _TABLE if pattern.search(text)), Out.UNKNOWN)


def is_provider_fault(error: NodeError) -> bool:
    """Whether the words, about whatever was asked, say that this endpoint is of no use now."""
    return classify(error) is Out.RPC_FAULT


def best(outcomes: list[Out]) -> Out:
    """One word for what several nodes said about the same bytes."""
    return min(outcomes, key=_BEST_FIRST.index, default=Out.UNKNOWN)


class Vocabulary:
    """Texts that were met already, numbers and hashes apart; holds at most `limit`. Thread-safe."""

    def __init__(self, limit: int = DISTINCT_LIMIT) -> None:
        self._limit = limit
        self._met: set[str] = set()
        self._lock = threading.Lock()

    def is_new(self, text: str) -> bool:
        """Whether this is the first time; once it is full nothing is new, and the metric alone goes on."""
        shape = _VARYING.sub("#", text[:200].lower())
        with self._lock:
            if shape in self._met or len(self._met) >= self._limit:
                return False
            self._met.add(shape)
            return True


# Of this process: each child of a pool says a new text once.
UNRECOGNISED = Vocabulary()
