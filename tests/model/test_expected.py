"""The model itself: what it lets pass and what it does not."""

from collections import Counter
from decimal import Decimal

import pytest

from tests.model.expected import Expected

AMOUNT = Decimal("5.000000")


@pytest.mark.parametrize(
    ("row", "registered", "holds"),
    [
        (("filled", ""), 1, True),
        (("rejected", "reduce_only"), 0, True),
        (("rejected", "may_be_executed"), 1, True),
        (("held", "wallet_halted"), 0, True),
        (("held", "wallet_halted"), 1, False),
        (("simulated", ""), 0, True),
        (("simulated", ""), 1, False),
        (("filled", ""), 0, False),
        (("filled", ""), 2, False),
        (("rejected", "reduce_only"), 1, False),
        (("lost_nonce", ""), 1, False),
        (None, 0, False),
    ],
)
def test_what_may_have_become_of_a_wish(row: tuple[str, str] | None, registered: int, holds: bool) -> None:
    expected = Expected()
    wish = expected.wish("BTC-USD")
    assert wish.amount_usdc == AMOUNT
    rows = {wish.key: row} if row else {}
    if holds:
        expected.check(rows, Counter({AMOUNT: registered}))
        return
    with pytest.raises(AssertionError):
        expected.check(rows, Counter({AMOUNT: registered}))


def test_only_a_restore_explains_a_lost_row_and_nothing_an_order_of_nobody() -> None:
    expected = Expected()
    expected.gone.add(expected.wish("BTC-USD").key)
    expected.check({}, Counter())
    with pytest.raises(AssertionError, match="nobody asked for"):
        expected.check({}, Counter({Decimal(7): 1}))


def test_a_restore_explains_nothing_of_what_is_asked_after_it() -> None:
    expected = Expected()
    before = expected.wish("BTC-USD")
    expected.gone.add(before.key)
    # Asked again, it may wait for the end of the order that the lost row sent.
    expected.check({before.key: ("held", "wallet_halted")}, Counter({AMOUNT: 1}))
    after = expected.wish("BTC-USD")
    with pytest.raises(AssertionError, match=f"{after.key} was asked for and is gone"):
        expected.check({}, Counter())
