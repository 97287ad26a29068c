"""The document is valid, covers exactly the routes there are, and says of a signal's body what the door says."""

import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from ops.api import signal_body
from ops.api.document import document
from signals_app import payloads
from signals_app.strict_json import parse
from tests.ops.api.judge import validator
from tests.signals.sender import open_body

BODY = validator({"$ref": "#/components/schemas/SignalBody"})


def fetched() -> dict[str, Any]:
    answer = Client().get("/api/openapi.json")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    return dict(answer.json())


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(fetched()).validate()
    assert fetched()["openapi"].startswith("3.1.")


def test_every_schema_is_a_schema_and_is_used() -> None:
    text = json.dumps(fetched())
    for name, schema in fetched()["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert f'"#/components/schemas/{name}"' in text, name


# For people with a browser: the link that `/bind` gives.
PAGES = {"/bind/{token}"}


def test_every_route_but_the_sites_pages_is_in_the_document_and_the_other_way_round() -> None:
    patterns = get_resolver("vanta.urls").url_patterns
    pages = [pattern for pattern in patterns if not isinstance(pattern, URLPattern)]
    assert [str(pattern.pattern) for pattern in pages] == ["admin/", "admin/"], (
        "the panel's own, then the site's"
    )
    routes = {
        "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        for pattern in patterns
        if isinstance(pattern, URLPattern)
    }
    assert routes == set(fetched()["paths"]) | PAGES


def test_no_secret_stands_in_it(settings: Any) -> None:
    text = json.dumps(fetched())
    environment = settings.ENVIRONMENT
    for secret in (environment.admin_token, environment.webhook_hmac_secret, environment.signer_key_password):
        assert secret.get_secret_value() not in text
    assert settings.SECRET_KEY not in text
    assert environment.base_rpc_url not in text


def test_it_is_read_only() -> None:
    for path in ("/api/openapi.json", "/api/docs"):
        answer = Client(enforce_csrf_checks=True).post(path)
        assert (answer.status_code, answer["Allow"], answer.json()["mode"]) == (405, "GET, HEAD", "DRY")
        assert Client().head(path).status_code == 200


def test_every_field_is_described_with_its_limits() -> None:
    described = document()["components"]["schemas"]["SignalBody"]
    assert list(described["properties"]) == list(payloads.FIELDS)
    assert set(described["required"]) == payloads.REQUIRED
    assert set(signal_body.ABOUT) == set(payloads.FIELDS)
    collateral = described["properties"]["collateral_usdc"]
    assert collateral["x-decimals"] == 6
    assert collateral["anyOf"][0]["maximum"] == payloads.MAX_USDC
    assert "at most 6 decimals" in collateral["description"]


@pytest.mark.parametrize(
    "example",
    [signal_body.OPEN, signal_body.CLOSE, signal_body.CHANGE, signal_body.MARGIN],
    ids=["open", "close", "change", "margin"],
)
def test_the_examples_are_signals(example: dict[str, Any]) -> None:
    assert accepted(example)
    assert BODY.is_valid(example)


def accepted(body: object) -> bool:
    """What the door says."""
    try:
        payloads.read(parse(json.dumps(body).encode()))
    except payloads.Invalid:
        return False
    return True


# Fit and unfit for each field; a fault that JSON Schema can express stands in UNFIT.
FIT: dict[str, list[object]] = {
    "source": ["a", "A-z.0_9", "a" * 64],
    "signal_id": ["a:b", "x" * 128],
    "tg_user_id": [1, "123", 2**63 - 1, 5.0, "5e1"],
    "symbol": ["BTC-USD", "1INCH-USDC"],
    "side": ["LONG", "long", "Short", "CLOSE", "cLoSe", "INCREASE", "increase"],
    "collateral_usdc": [5, 5.5, "5", "0.000001", "5e0", 10**9, None],
    "leverage_x": [1, "1.2345", 1000, None],
    "slippage_pct": [0.5, "80", None],
    "reduce_usdc": [1, "1.5", None],
    "reduce_pct": [100, "0.0001", None],
    "take_profit": [1, "0.0000000001", None],
    "stop_loss": [60_000.5, None],
    "order_type": ["market", "limit", "stop_limit", None],
    "limit_price": [1, "2.5", None],
    "changes": ["a:b", "x" * 128],
    "deposit_usdc": [5, "0.000001"],
    "withdraw_usdc": [5, "0.000001"],
    "max_lag_s": [1, 86_400, "60", None],
    "ts": ["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123456789+02:00", "2026-01-02T03:04:05z", None],
    "meta": [{}, {"a": [1, {"b": None}]}, None],
}
UNFIT: dict[str, list[object]] = {
    "source": ["", "a b", "a" * 65, "\u0456", 5, None],
    "signal_id": ["", "a/b", "a" * 129, None],
    "tg_user_id": [0, -1, 1.5, 2**63, True, "a", "1" * 41, None],
    "symbol": ["btc-usd", "BTCUSD", "BTC-US", 5, None],
    "side": ["BUY", "\u017fHORT", ["LONG"], "", None],
    "collateral_usdc": [0, -5, 10**9 + 1, "5,0", " 5", "", "\uff15", True, [], {}],
    "leverage_x": [0, 1001, "x"],
    "slippage_pct": [0, 81],
    "reduce_usdc": [0, "NaN"],
    "reduce_pct": [0, 101],
    "take_profit": [0, 10**13],
    "stop_loss": [-1, "0x5"],
    "order_type": ["Market", "iceberg", 5],
    "limit_price": [0, "."],
    "changes": ["", "a/b", "a" * 129, 5, "x"],
    "deposit_usdc": [0, "x", 5],
    "withdraw_usdc": [0, "x", 5],
    "max_lag_s": [0, 86_401, 1.5],
    "ts": ["2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "yesterday", 1767323045],
    "meta": [[], "a", 5],
    "leverage": [2],
}


@pytest.mark.parametrize("field", FIT)
def test_what_the_door_takes_the_document_takes(field: str) -> None:
    for value in FIT[field]:
        closes = field.startswith("reduce")
        body = open_body(**({"side": "CLOSE"} if closes else {}))
        body[field] = value
        if field in {"limit_price", "order_type"} and value not in {"market", None}:
            body |= {"order_type": "limit", "limit_price": 5} | {field: value}
        if field == "side" and str(value).upper() == payloads.INCREASE:
            del body["leverage_x"]  # it has its position's
        if field == "changes":
            body = change_body(changes=value)
        if field in payloads.MARGINS:
            body = margin_body(**({"deposit_usdc": None} | {field: value}))
        opens_with_less = value is None and field in {"collateral_usdc", "leverage_x"}
        assert accepted(body) is not opens_with_less, (field, value)
        assert BODY.is_valid(body) is not opens_with_less, (field, value)


@pytest.mark.parametrize("field", UNFIT)
def test_what_the_document_refuses_the_door_refuses(field: str) -> None:
    for value in UNFIT[field]:
        body = open_body(**({"side": "CLOSE"} if field.startswith("reduce") else {})) | {field: value}
        assert not accepted(body), (field, value)
        assert not BODY.is_valid(body), (field, value)


def change_body(**fields: object) -> dict[str, object]:
    not_of_changes = ("collateral_usdc", "leverage_x", "slippage_pct")
    body = {name: value for name, value in open_body().items() if name not in not_of_changes}
    return body | {"side": "CHANGE", "changes": "one", "limit_price": 5} | fields


def margin_body(**fields: object) -> dict[str, object]:
    body = {name: value for name, value in change_body().items() if name not in {"changes", "limit_price"}}
    return body | {"side": "MARGIN", "deposit_usdc": 5} | fields


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"side": "margin"}, True),
        ({"deposit_usdc": None, "withdraw_usdc": 1}, True),
        ({"withdraw_usdc": 1}, False),
        ({"deposit_usdc": None}, False),
        ({"slippage_pct": 1}, False),
        ({"collateral_usdc": 1}, False),
        ({"limit_price": 1}, False),
        ({"side": "CLOSE"}, False),
    ],
)
def test_margin_is_taken_by_both_or_by_none(fields: dict[str, object], fits: bool) -> None:
    body = margin_body(**fields)
    assert (accepted(body), BODY.is_valid(body)) == (fits, fits)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"side": "change", "take_profit": 5, "limit_price": None}, True),
        ({"slippage_pct": 1, "limit_price": None}, True),
        ({"limit_price": None}, False),
        ({"changes": None}, False),
        ({"reduce_pct": 5}, False),
        ({"collateral_usdc": 5}, False),
        ({"order_type": "limit"}, False),
        ({"order_type": "market"}, False),
        ({"side": "LONG", "collateral_usdc": 5, "leverage_x": 2}, False),
        ({"side": "CLOSE", "limit_price": None}, False),
    ],
)
def test_a_change_is_taken_by_both_or_by_none(fields: dict[str, object], fits: bool) -> None:
    body = change_body(**fields)
    assert (accepted(body), BODY.is_valid(body)) == (fits, fits)


@pytest.mark.parametrize("field", sorted(payloads.REQUIRED))
def test_what_is_required_is_required_by_both(field: str) -> None:
    body = {name: value for name, value in open_body().items() if name != field}
    assert not accepted(body)
    assert not BODY.is_valid(body)


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in FIT.items()}))
def test_fields_together_mean_the_same_to_both(fields: dict[str, object]) -> None:
    """Any choice of fields, each fit by itself: both take it, or both refuse it."""
    assert BODY.is_valid(fields) is accepted(fields)


@given(
    st.fixed_dictionaries(
        {name: st.sampled_from(FIT[name]) for name in payloads.REQUIRED},
        optional={
            name: st.sampled_from(values) for name, values in FIT.items() if name not in payloads.REQUIRED
        },
    )
)
def test_orders_mean_the_same_to_both(fields: dict[str, object]) -> None:
    assert BODY.is_valid(fields) is accepted(fields)
