"""The door to anything looser: a reason of some length first, then the second factor."""

import pytest

from execution_app.errors import Refused
from execution_app.gate import loosening, second_factor


def test_a_reason_is_as_long_as_its_letters_and_comes_before_the_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A code that was asked for is used up, so it is not asked for where the reason is refused already."""
    verified: list[tuple[str, str]] = []
    monkeypatch.setattr(second_factor, "verify", lambda by, code: verified.append((by, code)))
    for short in ("", "1234567", " 1234567 ", "\n\t" * 10):
        with pytest.raises(Refused, match=r"^loosening needs a reason of at least 8 characters$"):
            loosening.permit(by="ann", reason=short, code="123456")
    assert verified == []
    loosening.permit(by="ann", reason=" 12345678\n", code="123456")
    assert verified == [("ann", "123456")]


def test_a_code_that_is_refused_permits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_by: str, _code: str) -> None:
        raise Refused("the code is wrong")

    monkeypatch.setattr(second_factor, "verify", refuse)
    with pytest.raises(Refused, match="the code is wrong"):
        loosening.permit(by="ann", reason="a good reason", code="1")
