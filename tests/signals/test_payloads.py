import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_app.errors import Refused
from signals_app.payloads import MAX_ERRORS, Invalid, Payload, read
from signals_app.strict_json import parse, plain

OPEN = {
    "source": "drill",
    "signal_id": "test-001",
    "tg_user_id": 123,
    "symbol": "BTC-USD",
    "side": "LONG",
    "collateral_usdc": 5,
    "leverage_x": 2,
    "slippage_pct": 0.5,
}
CLOSE = {name: OPEN[name] for name in ("source", "signal_id", "tg_user_id", "symbol")} | {"side": "CLOSE"}
MARGIN = CLOSE | {"side": "MARGIN", "deposit_usdc": 5}
INCREASE = CLOSE | {"side": "INCREASE", "collateral_usdc": 5}
CHANGE = CLOSE | {"side": "CHANGE", "changes": "one", "limit_price": 5}


def payload(document: object) -> Payload:
    """As the door reads it, from bytes."""
    return read(parse(json.dumps(document).encode()))


def errors(document: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        payload(document)
    return {error.field: error.message for error in caught.value.errors}


def test_the_contracts_example() -> None:
    found = payload(OPEN)
    assert found.intent_key == "sig:drill:test-001"
    assert (found.collateral_usdc, found.leverage_x) == (Decimal(5), Decimal(2))
    assert found.slippage_pct == Decimal("0.5")
    assert (found.order_type, found.meta, found.take_profit) == ("market", {}, None)


def test_a_close_needs_no_size_and_may_carry_one() -> None:
    assert payload(CLOSE).collateral_usdc is None
    assert payload(OPEN | {"side": "CLOSE"}).collateral_usdc == 5


@pytest.mark.parametrize(
    "spelling",
    [
        {"collateral_usdc": 5.0},
        {"collateral_usdc": "5"},
        {"collateral_usdc": "5.0000000"},
        {"collateral_usdc": "0.5e1"},
        {"side": "long"},
        {"side": "Long"},
        {"slippage_pct": None},
        {"slippage_pct": "0.50"},
        {"tg_user_id": "123"},
        {"order_type": "market"},
        {"meta": {}},
        {"take_profit": None},
    ],
)
def test_another_spelling_is_the_same_content(spelling: dict[str, object]) -> None:
    assert payload(OPEN | spelling).sha256 == payload(OPEN).sha256


def test_order_of_keys_and_defaults_are_the_same_content() -> None:
    turned = {name: OPEN[name] for name in reversed(OPEN) if name != "slippage_pct"}
    assert payload(turned).sha256 == payload(OPEN).sha256


def test_the_same_instant_in_another_zone_is_the_same_content() -> None:
    one = payload(OPEN | {"ts": "2026-01-02T03:04:05.5Z"})
    other = payload(OPEN | {"ts": "2026-01-02t05:04:05.500000+02:00"})
    assert one.ts == datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)
    assert one.sha256 == other.sha256


def test_numbers_in_meta_are_compared_by_value_and_text_by_text() -> None:
    one, other = payload(OPEN | {"meta": {"n": 1.50}}), payload(OPEN | {"meta": {"n": 15e-1}})
    assert one.sha256 == other.sha256
    assert payload(OPEN | {"meta": {"n": "1.5"}}).sha256 != one.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"collateral_usdc": "5.000001"},
        {"side": "SHORT"},
        {"leverage_x": 3},
        {"stop_loss": 1},
        {"take_profit": 1},
        {"meta": {"a": 1}},
        {"max_lag_s": 1},
        {"ts": "2026-01-02T03:04:05Z"},
        {"tg_user_id": 124},
        {"symbol": "ETH-USD"},
    ],
)
def test_another_content_is_another_digest(change: dict[str, object]) -> None:
    assert payload(OPEN | change).sha256 != payload(OPEN).sha256


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("source", "", "1 to 64"),
        ("source", "a" * 65, "1 to 64"),
        ("source", "a:b", "1 to 64"),
        ("source", "a\n", "1 to 64"),
        ("source", "a\x00", "1 to 64"),
        ("source", "\u0661", "1 to 64"),
        ("source", 7, "1 to 64"),
        ("signal_id", "a" * 129, "1 to 128"),
        ("signal_id", "a#2", "1 to 128"),
        ("signal_id", ["a"], "1 to 128"),
        ("tg_user_id", 0, str(2**63 - 1)),
        ("tg_user_id", 2**63, str(2**63 - 1)),
        ("tg_user_id", 1.5, str(2**63 - 1)),
        ("tg_user_id", True, "number"),
        ("tg_user_id", "\u0661\u0662", "number"),
        ("tg_user_id", "1_000", "number"),
        ("symbol", "btc-usd", "upper case"),
        ("symbol", "BTCUSD", "BTC-USD"),
        ("symbol", "BTC-USD\n", "BTC-USD"),
        ("side", "BUY", "LONG, SHORT, CLOSE"),
        ("side", "\u017fhort", "LONG, SHORT, CLOSE"),
        ("side", 1, "LONG, SHORT, CLOSE"),
        ("collateral_usdc", 0, "above 0"),
        ("collateral_usdc", "-0", "above 0"),
        ("collateral_usdc", -5, "above 0"),
        ("collateral_usdc", "1000000000.000001", "at most 1000000000"),
        ("collateral_usdc", "0.0000001", "6 decimals"),
        ("collateral_usdc", 1e-300, "6 decimals"),
        ("collateral_usdc", 1e300, "at most 1000000000"),
        ("collateral_usdc", "1e-999999", "6 decimals"),
        ("collateral_usdc", "1e99999999999999999999", "exponent"),
        ("collateral_usdc", "NaN", "decimal string"),
        ("collateral_usdc", "Infinity", "decimal string"),
        ("collateral_usdc", "", "decimal string"),
        ("collateral_usdc", " 5", "decimal string"),
        ("collateral_usdc", "5\n", "decimal string"),
        ("collateral_usdc", "05", "decimal string"),
        ("collateral_usdc", "0x5", "decimal string"),
        ("collateral_usdc", "1" * 41, "40 characters"),
        ("collateral_usdc", False, "number"),
        ("collateral_usdc", [5], "number"),
        ("leverage_x", "2.00001", "4 decimals"),
        ("leverage_x", 1001, "at most 1000"),
        ("slippage_pct", 80.0001, "at most 80"),
        ("take_profit", "0.00000000001", "10 decimals"),
        ("stop_loss", "1000000000001", "at most 1000000000000"),
        ("order_type", "MARKET", "market, limit, stop_limit"),
        ("trailing_stop_pct", "100.0001", "at most 100"),
        ("break_even_pct", "0.00001", "4 decimals"),
        ("time_stop_s", 0, "31536000"),
        ("time_stop_s", "1.5", "31536000"),
        ("max_lag_s", 0, "86400"),
        ("max_lag_s", 86_401, "86400"),
        ("max_lag_s", 1.5, "86400"),
        ("ts", "2026-01-02T03:04:05", "zone"),
        ("ts", "2026-01-02 03:04:05Z", "RFC 3339"),
        ("ts", "2026-02-30T03:04:05Z", "RFC 3339"),
        ("ts", "2026-01-02T24:00:00Z", "RFC 3339"),
        ("ts", "0001-01-01T00:00:00+01:00", "2000"),
        ("ts", "9999-12-31T23:59:59-01:00", "2199"),
        ("ts", "2026-01-02T03:04:05+99:99", "RFC 3339"),
        ("ts", 1767322845, "RFC 3339"),
        ("meta", [], "object"),
        ("meta", {"a": "\x00"}, "NUL"),
        ("meta", {"\x00": 1}, "NUL"),
        ("meta", {"a": ["\ud800"]}, "surrogate"),
        ("meta", {"a": "b" * 4096}, "4096 bytes"),
        ("meta", {"a": "\u00e4" * 2048}, "4096 bytes"),
        ("meta", {"a": [[[[[1]]]]]}, "5 deep"),
        ("meta", {"a": 1e300}, "40 digits"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_field_out_of_its_limits(field: str, value: object, limit: str) -> None:
    found = errors(OPEN | {field: value})
    assert list(found) == [field]
    assert limit in found[field]


def test_the_largest_values_fit() -> None:
    found = payload(
        OPEN
        | {
            "source": "a" * 64,
            "signal_id": "b:" * 64,
            "tg_user_id": 2**63 - 1,
            "collateral_usdc": "999999999.999999",
            "leverage_x": "999.9999",
            "slippage_pct": 80,
            "take_profit": "999999999999.9999999999",
            "meta": {"a": [[[[1]]]], "b": "c" * 4000},
        }
    )
    assert found.take_profit == Decimal("999999999999.9999999999")


def test_every_error_is_listed() -> None:
    found = errors({"side": "LONG", "leverage_x": 0, "stop_loss": "x", "colateral": 5, "reduce_pct": 50})
    assert set(found) == {
        *("source", "signal_id", "tg_user_id", "symbol", "collateral_usdc", "leverage_x"),
        *("stop_loss", "colateral", "reduce_pct"),
    }
    assert found["colateral"] == "is not a known field"


def test_a_flood_of_unknown_fields_is_answered_briefly() -> None:
    with pytest.raises(Invalid) as caught:
        payload(OPEN | {f"x{number}": 1 for number in range(5_000)})
    assert len(caught.value.errors) == MAX_ERRORS + 1
    assert "4900 more" in caught.value.errors[-1].message


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (OPEN | {"collateral_usdc": None}, "collateral_usdc"),
        ({name: OPEN[name] for name in OPEN if name != "leverage_x"}, "leverage_x"),
        (OPEN | {"reduce_usdc": 1}, "reduce_usdc"),
        (OPEN | {"reduce_pct": 1}, "reduce_pct"),
        (CLOSE | {"reduce_pct": 50, "reduce_usdc": 1}, "reduce_pct"),
        (CLOSE | {"reduce_pct": 101}, "reduce_pct"),
        (OPEN | {"limit_price": 1}, "limit_price"),
        (OPEN | {"order_type": "limit"}, "limit_price"),
        (OPEN | {"order_type": "stop_limit"}, "limit_price"),
        (OPEN | {"changes": "one"}, "changes"),
        (CLOSE | {"changes": "one"}, "changes"),
        (CHANGE | {"changes": None}, "changes"),
        (CHANGE | {"changes": "a b"}, "changes"),
        (CHANGE | {"limit_price": None}, "side"),
        (CHANGE | {"collateral_usdc": 5}, "collateral_usdc"),
        (CHANGE | {"order_type": "limit"}, "order_type"),
        (CHANGE | {"trailing_stop_pct": 1}, "trailing_stop_pct"),
        (CHANGE | {"deposit_usdc": 1}, "deposit_usdc"),
        (CLOSE | {"withdraw_usdc": 1}, "withdraw_usdc"),
        (MARGIN | {"withdraw_usdc": 1}, "side"),
        (MARGIN | {"deposit_usdc": None}, "side"),
        (MARGIN | {"slippage_pct": 1}, "slippage_pct"),
        (MARGIN | {"take_profit": 1}, "take_profit"),
        (MARGIN | {"changes": "one"}, "changes"),
        (CHANGE | {"trailing_stop_pct": 0}, "trailing_stop_pct"),
        (CHANGE | {"limit_price": 0}, "limit_price"),
        (CHANGE | {"stop_loss": -1}, "stop_loss"),
        (OPEN | {"take_profit": 0}, "take_profit"),
        (CLOSE | {"stop_loss": "0.0"}, "stop_loss"),
        (INCREASE | {"stop_loss": 0}, "stop_loss"),
        ([], ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_fields_that_need_or_exclude_each_other(document: object, field: str) -> None:
    assert list(errors(document)) == [field]


def test_priced_orders_and_partial_closes_are_read() -> None:
    assert payload(OPEN | {"order_type": "limit", "limit_price": "60000.5"}).limit_price == Decimal("60000.5")
    assert payload(CLOSE | {"reduce_pct": "33.3333"}).reduce_pct == Decimal("33.3333")
    assert payload(CLOSE | {"reduce_usdc": 2}).reduce_usdc == 2


def test_of_a_change_what_is_not_named_stays() -> None:
    read_ = payload(CHANGE)
    assert (read_.side, read_.changes, read_.limit_price, read_.slippage_pct) == (
        "CHANGE",
        "one",
        Decimal(5),
        None,
    )
    assert payload(CHANGE | {"slippage_pct": 1, "limit_price": None}).slippage_pct == 1


@pytest.mark.parametrize("nothing", [0, "0", "-0", "0.000", 0.0])
def test_a_level_of_nothing_takes_it_away_and_null_leaves_it(nothing: object) -> None:
    alone = {"limit_price": None, "stop_loss": nothing}
    read_ = payload(CHANGE | alone)
    assert str(read_.stop_loss) == "0"
    assert read_.take_profit is None
    assert read_.sha256 == payload(CHANGE | alone | {"take_profit": None}).sha256
    assert read_.sha256 != payload(CHANGE | alone | {"take_profit": 0}).sha256


def test_messages_do_not_repeat_what_was_sent() -> None:
    value = "hunter2-not-a-number"
    assert all(value not in message for message in errors(OPEN | dict.fromkeys(OPEN, value + "\n")).values())


AMOUNT = st.decimals(min_value="0.000001", max_value=10**9, places=6, allow_nan=False, allow_infinity=False)


@given(AMOUNT, st.integers(0, 6), st.booleans(), st.randoms(), st.sampled_from(["LONG", "Long", "long"]))
def test_any_spelling_of_an_amount_is_one_content(
    amount: Decimal, zeros: int, quoted: bool, random: Any, side: str
) -> None:
    text = plain(amount)
    text += ("." if zeros and "." not in text else "") + "0" * zeros
    text = f"{text}e0" if random.random() < 0.3 else text
    members = [f'"{name}":{json.dumps(value)}' for name, value in OPEN.items()]
    members = [member for member in members if not member.startswith(('"collateral', '"side'))]
    members += [f'"collateral_usdc":{json.dumps(text) if quoted else text}', f'"side":"{side}"']
    random.shuffle(members)
    found = read(parse(f"{{{' , '.join(members)}}}".encode()))
    assert found.collateral_usdc == amount
    assert found.sha256 == payload(OPEN | {"collateral_usdc": str(amount)}).sha256


SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.from_regex(r"-?\d+(\.\d+)?")
)
ANY = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(ANY | st.dictionaries(st.sampled_from([*OPEN, "meta", "ts", "reduce_pct", "order_type", "x"]), ANY))
def test_any_json_is_a_payload_or_refused(document: object) -> None:
    body = json.dumps(OPEN | document if isinstance(document, dict) else document).encode()
    try:
        digest = read(parse(body)).sha256
    except Refused:
        return
    assert len(digest) == 64
