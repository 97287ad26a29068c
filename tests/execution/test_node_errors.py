"""What nodes say about raw bytes, in their own words, and what it means to us."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.node.node_errors import (
    DISTINCT_LIMIT,
    HELD_BY_NODE,
    PHRASES,
    READ_LIMIT,
    TOO_CHEAP,
    Vocabulary,
    best,
    classify,
    is_provider_fault,
)
from execution_app.node.rpc import NodeError
from execution_app.states import SendOutcome as Out
from tests.execution.node_words import SAID

STRANGE = [
    "",
    "internal error",
    "Unknown transaction type: 0x05",
    "unknown transaction",
    "the transaction is banned",
    "\u0000",
    "n" * 100_000,
    "could not find out whether it is already known",
    "it is not true that nonce too low was said",
    "a well-known transaction",
]
CLIENTS = {"geth", "reth", "erigon", "nethermind", "anvil", "hardhat", "alchemy", "infura", "quicknode"}
FRAMES = [
    "execution reverted: {}",
    "VM Exception: Revert('{}')",
    "{} (transaction reverted)",
    "{}" + "." * 9_000 + "Revert",
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
@pytest.mark.parametrize("frame", FRAMES)
def test_a_revert_may_quote_anything(frame: str, phrase: str) -> None:
    assert classify(NodeError(3, frame.format(phrase))) is Out.UNKNOWN


@pytest.mark.parametrize(("phrase", "meaning"), PHRASES)
def test_every_phrase_is_reached(phrase: str, meaning: Out) -> None:
    """A phrase that an earlier one swallows would be dead."""
    assert classify(NodeError(0, f"Error: {phrase.upper()}!")) is meaning
    assert phrase == phrase.lower()


@pytest.mark.parametrize(("phrase", "meaning"), PHRASES)
def test_every_phrase_is_in_words_that_somebody_says(phrase: str, meaning: Out) -> None:
    """So that a slip in the table is one against what is written down apart."""
    assert any(phrase in text.lower() and meaning is said for _, text, said in SAID)


def test_one_good_word_is_enough_among_nodes() -> None:
    bad = [Out.UNKNOWN, Out.RPC_FAULT, Out.INSUFFICIENT_FUNDS, Out.POOL_FULL, Out.UNDERPRICED]
    assert best([*bad, Out.ACCEPTED]) is Out.ACCEPTED
    assert best([*bad, Out.ALREADY_KNOWN]) is Out.ALREADY_KNOWN
    assert best([Out.NONCE_TOO_LOW, *bad]) is Out.NONCE_TOO_LOW
    assert best([]) is Out.UNKNOWN


def test_what_nodes_say_about_the_same_bytes_is_weighed_in_this_order() -> None:
    weighed = [
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
    ]
    for at, better in enumerate(weighed):
        assert [best([worse, better]) for worse in weighed[at:]] == [better] * (len(weighed) - at)


def test_only_these_words_mean_that_no_node_can_hold_the_bytes() -> None:
    assert {Out.ACCEPTED, Out.ALREADY_KNOWN, Out.NONCE_TOO_LOW} == HELD_BY_NODE
    assert {Out.UNDERPRICED, Out.REPLACEMENT_UNDERPRICED} == TOO_CHEAP


def test_a_node_is_not_read_without_end() -> None:
    """Words stand at the beginning; a revert is looked for in all of it."""
    assert READ_LIMIT == 2_000
    assert classify(NodeError(0, " " * 10 + "nonce too high")) is Out.NONCE_TOO_HIGH
    late = "." * (READ_LIMIT - len("nonce too high")) + "nonce too high"
    assert classify(NodeError(0, late)) is Out.NONCE_TOO_HIGH
    assert classify(NodeError(0, "." + late)) is Out.UNKNOWN


def test_blanks_around_the_words_mean_nothing() -> None:
    assert classify(NodeError(-32000, " \talready known\n")) is Out.ALREADY_KNOWN


def test_a_silent_node_outweighs_a_refusing_one() -> None:
    """Unknown is not failed: the silent node may hold the bytes."""
    for refused in (Out.INVALID_PERMANENT, Out.INSUFFICIENT_FUNDS, Out.UNDERPRICED, Out.POOL_FULL):
        assert best([refused, Out.UNKNOWN]) is Out.UNKNOWN


@pytest.mark.parametrize("outcome", [outcome for outcome in Out if outcome is not Out.UNOFFERED])
def test_every_outcome_can_be_weighed(outcome: Out) -> None:
    assert best([outcome]) is outcome


def test_every_client_is_in_the_table() -> None:
    assert {client for client, _, _ in SAID} >= CLIENTS


def is_about_no_phrase(text: str) -> bool:
    return not any(phrase in text.lower() for phrase, _ in PHRASES)


@given(st.text().filter(is_about_no_phrase))
def test_random_words_are_unknown(text: str) -> None:
    """Above all never that a node holds the bytes."""
    assert classify(NodeError(-32000, text)) is Out.UNKNOWN


@given(
    st.sampled_from([text for _, text, _ in SAID]),
    st.text(),
    st.text(),
    st.sampled_from(["revert", "Revert"]),
)
def test_a_revert_round_any_words_is_unknown(said: str, before: str, after: str, revert: str) -> None:
    assert classify(NodeError(3, f"{before}{revert} {said}{after}")) is Out.UNKNOWN
    assert classify(NodeError(3, f"{before}{said} {revert}ed{after}")) is Out.UNKNOWN
    assert not is_provider_fault(NodeError(3, f"{before}{said} {revert}ed{after}"))


@given(
    st.text(alphabet=st.characters(categories=["Ll", "Zs"]), min_size=1).filter(is_about_no_phrase),
    st.sampled_from(PHRASES),
)
def test_words_before_the_phrase_never_make_bytes_held(before: str, phrase: tuple[str, Out]) -> None:
    assert classify(NodeError(-32000, f"{before}x {phrase[0]}")) not in HELD_BY_NODE


def test_only_what_concerns_the_provider_is_its_fault() -> None:
    for _, text, meaning in SAID:
        assert is_provider_fault(NodeError(429, text)) is (meaning is Out.RPC_FAULT)


def test_a_new_text_is_met_once_whatever_its_numbers() -> None:
    met = Vocabulary(limit=2)
    assert met.is_new("strange: nonce 7 of 0xab")
    assert not met.is_new("Strange: nonce 12 of 0xffee")
    assert met.is_new("stranger")
    assert not met.is_new("strangest"), "no more than two are remembered"


def test_a_vocabulary_looks_at_the_first_two_hundred_characters_and_remembers_256_texts() -> None:
    met = Vocabulary()
    assert met.is_new("x" * 200 + "one")
    assert not met.is_new("x" * 200 + "another")
    assert met.is_new("x" * 199 + "another")
    words = ["".join(pair) for pair in product("abcdefghijklmnopq", repeat=2)]
    assert [met.is_new(word) for word in words] == [True] * 254 + [False] * 35
    assert DISTINCT_LIMIT == 256
