"""What a node's words about a broadcast mean, in one table.

Codes differ between clients and mean nothing; texts are matched per known
phrase. Reverts are looked for first, since revert text can quote anything. A
text that is not in the table is `unknown`: the same bytes are offered again.
"""

from execution_app.node.rpc import NodeError
from execution_app.states import SendOutcome as Out

# Phrase (lower case) → class. Source: error texts of geth, reth, erigon, nethermind, anvil and hardhat.
PHRASES: tuple[tuple[str, Out], ...] = (
    ("already known", Out.ALREADY_KNOWN),
    ("existing tx with same hash", Out.ALREADY_KNOWN),
    # Holds the next phrase, and means that the node does not hold the bytes.
    ("unknown transaction", Out.UNKNOWN),
    ("known transaction", Out.ALREADY_KNOWN),
    ("transaction already imported", Out.ALREADY_KNOWN),
    ("alreadyknown", Out.ALREADY_KNOWN),
    ("already in the pool", Out.ALREADY_KNOWN),
    ("replacement transaction underpriced", Out.REPLACEMENT_UNDERPRICED),
    ("could not replace existing tx", Out.REPLACEMENT_UNDERPRICED),
    ("replacementnotallowed", Out.REPLACEMENT_UNDERPRICED),
    ("nonce too low", Out.NONCE_TOO_LOW),
    ("oldnonce", Out.NONCE_TOO_LOW),
    ("nonce too high", Out.NONCE_TOO_HIGH),
    ("noncegap", Out.NONCE_TOO_HIGH),
    ("gapped-nonce", Out.NONCE_TOO_HIGH),
    ("insufficient funds", Out.INSUFFICIENT_FUNDS),
    ("insufficientfunds", Out.INSUFFICIENT_FUNDS),
    ("sender doesn't have enough funds", Out.INSUFFICIENT_FUNDS),
    ("transaction underpriced", Out.UNDERPRICED),
    ("max fee per gas less than block base fee", Out.UNDERPRICED),
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
    ("intrinsic gas too low", Out.INVALID_PERMANENT),
    ("invalid chain id", Out.INVALID_PERMANENT),
    ("invalid sender", Out.INVALID_PERMANENT),
    ("oversized data", Out.INVALID_PERMANENT),
    ("gas required exceeds allowance", Out.INVALID_PERMANENT),
    ("gaslimitexceeded", Out.INVALID_PERMANENT),
    ("incompatible eip-155", Out.INVALID_PERMANENT),
    ("is bigger than maxfeepergas", Out.INVALID_PERMANENT),
    ("tip above fee cap", Out.INVALID_PERMANENT),
    ("tip higher than fee cap", Out.INVALID_PERMANENT),
    ("max priority fee per gas higher than max fee per gas", Out.INVALID_PERMANENT),
    ("rate limit", Out.RPC_FAULT),
    ("too many requests", Out.RPC_FAULT),
    ("header not found", Out.RPC_FAULT),
    ("timeout", Out.RPC_FAULT),
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


def classify(error: NodeError) -> Out:
    """The class of a node's refusal of raw bytes."""
    text = error.message.lower()
    if "revert" in text:
        return Out.UNKNOWN
    return next((outcome for phrase, outcome in PHRASES if phrase in text), Out.UNKNOWN)


def best(outcomes: list[Out]) -> Out:
    """One word for what several nodes said about the same bytes."""
    return min(outcomes, key=_BEST_FIRST.index, default=Out.UNKNOWN)
