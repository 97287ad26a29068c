"""How fast a source may send: over all processes, closes apart from opens, repeats free."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from signals_app import intake, payloads, sources
from signals_app.models import Signal, Source, SourceBucket, SourceGrant
from tests.signals.sender import open_body, post

pytestmark = pytest.mark.usefixtures("database")

NARROW = {"open_burst": 3, "opens_per_minute": 1, "close_burst": 2, "closes_per_minute": 1}


def close_body(**fields: object) -> dict[str, Any]:
    body = open_body(side="CLOSE", **fields)
    return {name: body[name] for name in body if name not in ("collateral_usdc", "leverage_x")}


def statuses(bodies: list[dict[str, Any]]) -> list[int]:
    return [post(body).status_code for body in bodies]


def test_beyond_the_burst_the_sender_is_told_when_to_come_again() -> None:
    sources.limit("drill", **NARROW)
    assert statuses([open_body() for _ in range(3)]) == [202] * 3
    answer = post(open_body())
    assert (answer.status_code, answer.json()["status"]) == (429, "throttled")
    assert 30 <= int(answer["Retry-After"]) <= 60, "a token a minute, less what this has taken"
    assert answer.json()["mode"] in ("DRY", "LIVE")
    assert Signal.objects.count() == 3


def test_closes_are_never_throttled_by_opens_nor_opens_by_closes() -> None:
    sources.limit("drill", **NARROW)
    assert statuses([open_body() for _ in range(4)])[-1] == 429
    assert statuses([close_body() for _ in range(3)]) == [202, 202, 429]
    sources.limit("drill", open_burst=4)
    SourceBucket.objects.filter(kind="open").update(tokens=1)
    assert post(open_body()).status_code == 202


def test_a_repeat_is_never_throttled_and_costs_nothing() -> None:
    sources.limit("drill", **NARROW)
    bodies = [open_body() for _ in range(3)]
    statuses(bodies)
    assert statuses(bodies * 3) == [200] * 9
    assert post(bodies[0] | {"leverage_x": 3}).status_code == 409
    assert post(open_body()).status_code == 429


def test_time_refills_the_bucket_up_to_the_burst() -> None:
    sources.limit("drill", **NARROW)
    assert statuses([open_body() for _ in range(4)])[-1] == 429
    SourceBucket.objects.update(refilled_at=F("refilled_at") - timedelta(minutes=1))
    assert statuses([open_body() for _ in range(2)]) == [202, 429]
    SourceBucket.objects.update(refilled_at=F("refilled_at") - timedelta(days=1))
    assert statuses([open_body() for _ in range(4)]) == [202, 202, 202, 429]


def test_a_clock_set_back_does_not_shut_the_door() -> None:
    sources.limit("drill", **NARROW)
    statuses([close_body() for _ in range(3)])
    SourceBucket.objects.update(refilled_at=F("refilled_at") + timedelta(days=1))
    assert post(close_body()).status_code == 202


def test_a_limit_lowered_counts_at_once() -> None:
    post(open_body(source="granted"))
    SourceGrant.objects.create(source="granted", tg_user_id=123)
    post(open_body(source="granted"))
    sources.limit("granted", open_burst=1, opens_per_minute=1)
    assert statuses([open_body(source="granted") for _ in range(2)]) == [202, 429]


def test_sources_nobody_knows_share_one_bucket_and_leave_the_others_theirs() -> None:
    SourceGrant.objects.create(source="granted", tg_user_id=123)
    for number in range(3):
        post(open_body(source=f"made-up-{number}"))
    assert SourceBucket.objects.get().source == ""
    SourceBucket.objects.update(tokens=-1000)
    assert post(open_body(source="made-up-9")).status_code == 429
    assert post(open_body(source="granted")).status_code == 202


def test_an_unusable_signal_costs_nothing() -> None:
    sources.limit("drill", **NARROW)
    assert statuses([open_body(symbol="btc") for _ in range(5)]) == [422] * 5
    issued = sources.add("drill")
    assert issued
    assert statuses([open_body() for _ in range(5)]) == [401] * 5
    assert not SourceBucket.objects.exists()


def test_at_once_no_more_than_the_burst_pass() -> None:
    sources.limit("drill", **(NARROW | {"open_burst": 20}))

    def send(_number: int) -> int:
        try:
            return int(post(open_body()).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as threads:
        answers = Counter(threads.map(send, range(60)))
    assert answers == {202: 20, 429: 40}


def test_five_hundred_at_once_pass_by_default() -> None:
    assert statuses([open_body() for _ in range(20)]) == [202] * 20
    assert SourceBucket.objects.get().tokens >= 1000 - 20
    assert Source().open_burst == Source().close_burst == 1000


def test_the_signal_waits_for_the_disk_and_the_token_does_not() -> None:
    """All signals of a source queue for its bucket, so its commit must be quick; the signal's must be safe."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
    with CaptureQueriesContext(connection) as queries:
        intake.store(payloads.read(open_body(slippage_pct=1)))
    token, signal = (
        query["sql"] for query in queries if query["sql"].lstrip().startswith(("WITH", "INSERT"))
    )
    assert "set_config('synchronous_commit', 'off', true)" in token
    assert "set_config" not in signal
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
