import hashlib
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals_app.signatures import MAX_SECRETS, bears, verify

BODY = b'{"source":"drill"}'


def signed(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_the_position_of_the_secret_that_verifies() -> None:
    assert verify(BODY, signed(BODY, "b"), ["a", "b", "c"]) == 1


def test_a_secret_given_twice_is_found_at_its_first_position() -> None:
    assert verify(BODY, signed(BODY, "b"), ["a", "b", "b"]) == 1


def test_upper_case_hex_is_the_same_signature() -> None:
    assert verify(BODY, signed(BODY, "a").upper(), ["a"]) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: "",
        lambda good: good[:-1],
        lambda good: good + "0",
        lambda good: "sha256=" + good,
        lambda good: " " + good,
        lambda good: good + "\n",
        lambda good: f"{good},{good}",
        lambda good: "0" * 64,
        lambda good: "g" * 64,
        lambda good: "\u0661" * 64,
        lambda good: "\uff11" + good[1:],
    ],
)
def test_anything_else_is_refused(spoil: Callable[[str], str]) -> None:
    assert verify(BODY, spoil(signed(BODY, "a")), ["a"]) is None


def test_another_body_or_another_secret_is_refused() -> None:
    assert verify(BODY + b" ", signed(BODY, "a"), ["a"]) is None
    assert verify(BODY, signed(BODY, "x"), ["a", "b"]) is None
    assert verify(BODY, signed(BODY, "a"), []) is None


@pytest.mark.parametrize("secrets", [[""], ["a", ""], ["a"] * (MAX_SECRETS + 1)])
def test_secrets_that_would_weaken_the_door_are_a_mistake_of_ours(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="secrets"):
        verify(BODY, signed(BODY, ""), secrets)


def test_sixty_five_secrets_are_few_enough() -> None:
    """The environment's and all that sources may have active; each more is a cost of every forged request."""
    assert verify(BODY, signed(BODY, "last"), ["a"] * 64 + ["last"]) == 64
    with pytest.raises(ValueError, match="65 secrets"):
        verify(BODY, signed(BODY, "a"), ["a"] * 66)


@given(st.binary(max_size=200), st.text(max_size=80))
def test_no_header_raises_and_none_fits_by_chance(body: bytes, header: str) -> None:
    assert verify(body, header, ["a-secret", "another"]) is None


def test_bearer() -> None:
    assert bears("Bearer token", "token")
    assert bears("bearer  token", "token")
    for wrong in (
        "",
        "token",
        "Bearer",
        "Bearer ",
        "Bearer Token",
        "Basic token",
        "Bearer token2",
        "Bearer t\xf6ken",
    ):
        assert not bears(wrong, "token")
    assert not bears("Bearer ", "")
