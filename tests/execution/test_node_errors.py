"""What nodes say about raw bytes, in their own words, and what it means to us."""

import pytest

from execution_app.node.node_errors import HELD_BY_NODE, PHRASES, best, classify
from execution_app.node.rpc import NodeError
from execution_app.states import SendOutcome as Out

SAID: list[tuple[str, str, Out]] = [
    ("geth", "already known", Out.ALREADY_KNOWN),
    ("geth", "nonce too low: next nonce 8, tx nonce 7", Out.NONCE_TOO_LOW),
    ("geth", "nonce too high: address 0x1, tx: 9 state: 7", Out.NONCE_TOO_HIGH),
    ("geth", "replacement transaction underpriced", Out.REPLACEMENT_UNDERPRICED),
    ("geth", "transaction underpriced: gas tip cap 1, minimum needed 1000000", Out.UNDERPRICED),
    (
        "geth",
        "max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1, baseFee: 7",
        Out.UNDERPRICED,
    ),
    (
        "geth",
        "insufficient funds for gas * price + value: balance 0, tx cost 9, overshot 9",
        Out.INSUFFICIENT_FUNDS,
    ),
    ("geth", "txpool is full", Out.POOL_FULL),
    ("geth", "in-flight transaction limit reached for delegated accounts", Out.POOL_FULL),
    ("geth", "gapped-nonce tx from delegated accounts", Out.NONCE_TOO_HIGH),
    ("geth", "exceeds block gas limit", Out.INVALID_PERMANENT),
    ("geth", "intrinsic gas too low: gas 20000, minimum needed 21000", Out.INVALID_PERMANENT),
    ("geth", "invalid chain id for signer: have 1 want 8453", Out.INVALID_PERMANENT),
    ("geth", "invalid sender", Out.INVALID_PERMANENT),
    (
        "geth",
        "max priority fee per gas higher than max fee per gas: address 0x1, maxPriorityFeePerGas: 2, maxFeePerGas: 1",
        Out.INVALID_PERMANENT,
    ),
    ("reth", "already known", Out.ALREADY_KNOWN),
    ("reth", "nonce too low: next nonce 8, tx nonce 7", Out.NONCE_TOO_LOW),
    ("reth", "replacement transaction underpriced", Out.REPLACEMENT_UNDERPRICED),
    ("reth", "insufficient funds for gas * price + value: have 0 want 9", Out.INSUFFICIENT_FUNDS),
    ("reth", "txpool is full", Out.POOL_FULL),
    ("erigon", "INTERNAL_ERROR: existing tx with same hash", Out.ALREADY_KNOWN),
    ("erigon", "ALREADY_EXISTS: already known", Out.ALREADY_KNOWN),
    ("erigon", "INTERNAL_ERROR: could not replace existing tx", Out.REPLACEMENT_UNDERPRICED),
    ("erigon", "INTERNAL_ERROR: nonce too low", Out.NONCE_TOO_LOW),
    ("erigon", "INTERNAL_ERROR: fee too low", Out.UNDERPRICED),
    ("erigon", "INTERNAL_ERROR: insufficient funds", Out.INSUFFICIENT_FUNDS),
    ("erigon", "pending sub-pool is full", Out.POOL_FULL),
    ("nethermind", "AlreadyKnown", Out.ALREADY_KNOWN),
    ("nethermind", "OldNonce, Current nonce: 8, nonce of rejected tx: 7", Out.NONCE_TOO_LOW),
    ("nethermind", "NonceGap, Future nonce. Expected nonce: 7", Out.NONCE_TOO_HIGH),
    ("nethermind", "ReplacementNotAllowed", Out.REPLACEMENT_UNDERPRICED),
    ("nethermind", "FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", Out.UNDERPRICED),
    ("nethermind", "FeeTooLowToCompete", Out.UNDERPRICED),
    ("nethermind", "InsufficientFunds, Account balance: 0, cumulative cost: 9", Out.INSUFFICIENT_FUNDS),
    ("nethermind", "GasLimitExceeded, Gas limit: 1, gas limit of rejected tx: 2", Out.INVALID_PERMANENT),
    ("anvil", "transaction already imported", Out.ALREADY_KNOWN),
    ("anvil", "nonce too low", Out.NONCE_TOO_LOW),
    ("anvil", "replacement transaction underpriced", Out.REPLACEMENT_UNDERPRICED),
    ("anvil", "Insufficient funds for gas * price + value", Out.INSUFFICIENT_FUNDS),
    ("anvil", "max fee per gas less than block base fee", Out.UNDERPRICED),
    ("hardhat", "Known transaction: 0x" + "ab" * 32, Out.ALREADY_KNOWN),
    (
        "hardhat",
        "Nonce too low. Expected nonce to be 8 but got 7. Note that transactions can't be queued when automining.",
        Out.NONCE_TOO_LOW,
    ),
    (
        "hardhat",
        "Replacement transaction underpriced. A gasPrice/maxFeePerGas of at least 11 is necessary",
        Out.REPLACEMENT_UNDERPRICED,
    ),
    (
        "hardhat",
        "Sender doesn't have enough funds to send tx. The max upfront cost is: 9 and the sender's balance is: 0.",
        Out.INSUFFICIENT_FUNDS,
    ),
    (
        "hardhat",
        "Transaction maxFeePerGas (1) is too low for the next block, which has a baseFeePerGas of 7",
        Out.UNDERPRICED,
    ),
    ("hardhat", "Transaction gas limit is 9 and exceeds block gas limit of 8", Out.INVALID_PERMANENT),
    (
        "hardhat",
        "Trying to send an incompatible EIP-155 transaction, signed for another chain.",
        Out.INVALID_PERMANENT,
    ),
    ("hardhat", "maxPriorityFeePerGas (2) is bigger than maxFeePerGas (1)", Out.INVALID_PERMANENT),
    ("provider", "Your app has exceeded its rate limit", Out.RPC_FAULT),
    ("provider", "Too Many Requests", Out.RPC_FAULT),
    ("provider", "request timeout", Out.RPC_FAULT),
]

STRANGE = [
    "",
    "internal error",
    "Unknown transaction type: 0x05",
    "unknown transaction",
    "the transaction is banned",
    "\u0000",
    "n" * 100_000,
]


@pytest.mark.parametrize(("client", "text", "meaning"), SAID)
def test_words_of_each_client(client: str, text: str, meaning: Out) -> None:
    assert classify(NodeError(-32000, text)) is meaning


@pytest.mark.parametrize("code", [-32000, -32003, -32010, 3, 0])
def test_codes_mean_nothing(code: int) -> None:
    assert classify(NodeError(code, "already known")) is Out.ALREADY_KNOWN
    assert classify(NodeError(code, "no such words")) is Out.UNKNOWN


@pytest.mark.parametrize("text", STRANGE)
def test_what_nobody_knows_is_unknown(text: str) -> None:
    outcome = classify(NodeError(-32000, text))
    assert outcome is Out.UNKNOWN
    assert outcome not in HELD_BY_NODE


@pytest.mark.parametrize("phrase", [phrase for phrase, _ in PHRASES])
@pytest.mark.parametrize(
    "frame", ["execution reverted: {}", "VM Exception: Revert('{}')", "{} (transaction reverted)"]
)
def test_a_revert_may_quote_anything(frame: str, phrase: str) -> None:
    assert classify(NodeError(3, frame.format(phrase))) is Out.UNKNOWN


@pytest.mark.parametrize(("phrase", "meaning"), PHRASES)
def test_every_phrase_is_reached(phrase: str, meaning: Out) -> None:
    """A phrase that an earlier one swallows would be dead."""
    assert classify(NodeError(0, f"Error: {phrase.upper()}!")) is meaning
    assert phrase == phrase.lower()


def test_one_good_word_is_enough_among_nodes() -> None:
    bad = [Out.UNKNOWN, Out.RPC_FAULT, Out.INSUFFICIENT_FUNDS, Out.POOL_FULL, Out.UNDERPRICED]
    assert best([*bad, Out.ACCEPTED]) is Out.ACCEPTED
    assert best([*bad, Out.ALREADY_KNOWN]) is Out.ALREADY_KNOWN
    assert best([Out.NONCE_TOO_LOW, *bad]) is Out.NONCE_TOO_LOW
    assert best([]) is Out.UNKNOWN


def test_a_silent_node_outweighs_a_refusing_one() -> None:
    """Unknown is not failed: the silent node may hold the bytes."""
    for refused in (Out.INVALID_PERMANENT, Out.INSUFFICIENT_FUNDS, Out.UNDERPRICED, Out.POOL_FULL):
        assert best([refused, Out.UNKNOWN]) is Out.UNKNOWN


@pytest.mark.parametrize("outcome", [outcome for outcome in Out if outcome is not Out.UNOFFERED])
def test_every_outcome_can_be_weighed(outcome: Out) -> None:
    assert best([outcome]) is outcome
