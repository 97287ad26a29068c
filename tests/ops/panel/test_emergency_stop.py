"""POST and DELETE /admin/emergency-stop: a stop that a script can trust."""

import json
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from execution_app.gate import control
from execution_app.models import Restriction, TxIntent, TxSend
from execution_app.states import Origin, RestrictionKind
from tests.ops.panel.rows import one_of_each

PATH = "/admin/emergency-stop"
TOKEN = "test-admin-token-not-for-use"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def call(client: Client, method: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return client.generic(
        method, PATH, data, content_type="application/json", headers=BEARER if headers is None else headers
    )


def test_stop_and_release(client: Client, database: None) -> None:
    first = call(client, "POST", {"reason": "drill"}).json()
    assert first["status"] == "ok"
    assert (first["emergency_stop"], first["changed"], first["in_flight"]) == (True, True, [])
    assert first["execution_mode"]["emergency_stop"] is True
    assert first["mode"] == "DRY"
    row = Restriction.objects.get()
    assert (row.kind, row.origin, row.reason) == ("emergency_stop", "http", "drill")
    again = call(client, "POST", {"reason": "again"}).json()
    assert (again["emergency_stop"], again["changed"]) == (True, False)
    released = call(client, "DELETE").json()
    assert (released["emergency_stop"], released["changed"], released["held_by"]) == (False, True, [])
    assert call(client, "DELETE").json()["changed"] is False


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer \u00e9\u00e9"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_wrong_token_is_401_and_nothing_happens(
    client: Client, database: None, method: str, headers: dict[str, str]
) -> None:
    control.impose(RestrictionKind.DRY, Origin.HTTP, by="test", reason="")
    response = call(client, method, headers=headers)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert [row.kind for row in control.active()] == ["dry"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
def test_other_methods(client: Client, database: None, method: str) -> None:
    response = call(client, method)
    assert (response.status_code, response["Allow"]) == (405, "POST, DELETE")


BAD_BODIES = [
    (b"{not json", 400),
    (b"\xff\xfe", 400),
    (b"[" * 4000, 400),
    (b'{"reason": 5}', 422),
    (b'{"reason": "a\\u0000b"}', 422),
    (b'{"reason": "\\ud800"}', 422),
    (b'{"other": 1}', 422),
    (b"[]", 422),
    (json.dumps({"reason": "x" * 401}).encode(), 422),
    (b" " * 5000, 413),
]


@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_an_unreadable_reason_still_stops_and_says_so(
    client: Client, database: None, body: bytes, status: int
) -> None:
    response = call(client, "POST", body)
    assert response.status_code == 200
    assert response.json()["emergency_stop"] is True
    assert response.json()["warning"]
    assert Restriction.objects.get().reason


@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_a_release_with_an_unreadable_body_is_refused(
    client: Client, database: None, body: bytes, status: int
) -> None:
    call(client, "POST")
    response = call(client, "DELETE", body)
    assert response.status_code == status
    assert len(control.active()) == 1


def test_release_leaves_the_stops_of_others(client: Client, database: None) -> None:
    control.impose(RestrictionKind.STOP, Origin.ADMIN, by="root", reason="other")
    call(client, "POST")
    body = call(client, "DELETE").json()
    assert (body["emergency_stop"], body["changed"]) == (True, True)
    assert [held["origin"] for held in body["held_by"]] == ["admin"]


def under_way() -> str:
    """The hash of a broadcast whose lease is fresh and whose answer is not known yet."""
    intent = one_of_each()
    other = TxIntent.objects.create(
        intent_key="sig:drill:leaving",
        trader=intent.trader,
        wallet=intent.wallet,
        tg_user_id=123,
        action="open",
        symbol="BTC-USD",
        is_long=True,
        collateral_usdc=5,
        leverage_x=2,
        slippage_pct=1,
    )
    slot = {"nonce": 1, "mode": "LIVE", "calldata": b"\x01", "value_wei": 0, "gas_limit": 1}
    TxIntent.objects.filter(pk=other.pk).update(state="reserved", **slot)
    for state in ("signed", "sending"):
        TxIntent.objects.filter(pk=other.pk).update(state=state)
    leaving = "0x" + "12" * 32
    TxSend.objects.create(
        intent=other,
        attempt=1,
        kind="exec",
        tx_hash=leaving,
        raw=b"\x02",
        max_fee_wei=2,
        tip_wei=1,
        leased_at=Now(),
    )
    return leaving


def test_it_names_what_may_still_have_left(client: Client, database: None) -> None:
    leaving = under_way()
    assert call(client, "POST").json()["in_flight"] == [leaving]


def test_database_away_is_503_with_retry_after(client: Client, database_away: None) -> None:
    for method in ("POST", "DELETE"):
        response = call(client, method)
        assert response.status_code == 503
        assert int(response["Retry-After"]) > 0
