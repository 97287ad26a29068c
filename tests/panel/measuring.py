"""What each page of the panel costs the server: time, questions to the database, the slowest of them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from statistics import median

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from execution_app.models import Fill, Position, TxIntent, TxSend

LISTS = {
    "signals": "signals_app/signal",
    "intents": "execution_app/txintent",
    "histories": "execution_app/intenttransition",
    "sends": "execution_app/txsend",
    "receipts": "execution_app/txreceipt",
    "orders": "execution_app/venueorder",
    "fills": "execution_app/fill",
    "positions": "execution_app/position",
    "reservations": "execution_app/reservation",
    "risk log": "execution_app/risklog",
    "audit": "execution_app/auditentry",
}


@dataclass(frozen=True)
class Cost:
    """Of one page over several requests; `asked` are its questions and what each took, the slowest first.

    `cpu_ms` is the median of what the process itself computed, which other work on the machine hardly changes.
    """

    median_ms: float
    p95_ms: float
    worst_ms: float
    cpu_ms: float
    questions: int
    slowest_ms: float
    asked: Sequence[tuple[float, str]]


def somebody() -> Client:
    """Whoever may see everything."""
    user = User.objects.filter(username="load").first()
    client = Client()
    client.force_login(user or User.objects.create_superuser("load", password=None))
    return client


def pages() -> dict[str, str]:
    """Address of each page by its name, about rows that are there."""
    filled = TxIntent.objects.filter(state="filled")
    old, new = filled.order_by("id").first(), filled.order_by("-id").first()
    send, fill = TxSend.objects.order_by("id").first(), Fill.objects.order_by("-id").first()
    position = Position.objects.filter(state="open").order_by("id").first()
    assert old
    assert new
    assert send
    assert fill
    assert position
    lists = {name: f"/admin/{path}/" for name, path in LISTS.items()}
    intents = lists["intents"]
    return {
        "home": "/admin/",
        "home, its live part": "/admin/live/home/",
        "banner, its live part": "/admin/live/banner/",
        **{f"list of {name}": path for name, path in lists.items()},
        "intents, page 100": f"{intents}?p=100",
        "intents that are held": f"{intents}?state__exact=held",
        "intents not settled": f"{intents}?settled_at__isempty=1",
        "intents of the last hour": f"{intents}?when=hour",
        "intents rejected for a reason": f"{intents}?reason__exact=leverage_above_cap",
        "intents by key": f"{intents}?q={old.intent_key}",
        "intents by hash": f"{intents}?q={send.tx_hash}",
        "intents by Telegram id": f"{intents}?q={old.tg_user_id}",
        "an intent": f"{intents}{old.pk}/change/",
        "a position": f"{lists['positions']}{position.pk}/change/",
        "find by signal id": f"/admin/find/?q=load-{old.pk}",
        "find by hash": f"/admin/find/?q={fill.tx_hash}",
        "find by Telegram id": f"/admin/find/?q={old.tg_user_id}",
        "trace of an old intent": f"/admin/trace/{old.intent_key}/",
        "trace of a new intent": f"/admin/trace/{new.intent_key}/",
        "charts": "/admin/charts/",
    }


def measure(client: Client, path: str, times: int = 20) -> Cost:
    """Ask so often, after once to warm up. Raises AssertionError where a page is not answered."""
    answer = client.get(path)
    assert answer.status_code in {HTTPStatus.OK, HTTPStatus.FOUND}, (path, answer.status_code)
    assert "e=1" not in answer.headers.get("Location", ""), path
    took_ms, cpu_ms = [], []
    for _ in range(times):
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        client.get(path)
        took_ms.append((time.perf_counter() - begun_s) * 1_000)
        cpu_ms.append((time.process_time() - cpu_s) * 1_000)
    with CaptureQueriesContext(connection) as captured:
        client.get(path)
    asked = [
        (round(float(one["time"]) * 1_000, 1), " ".join(one["sql"].split()))
        for one in captured.captured_queries
    ]
    asked.sort(reverse=True)
    return Cost(
        round(median(took_ms), 1),
        round(sorted(took_ms)[max(0, math.ceil(0.95 * times) - 1)], 1),
        round(max(took_ms), 1),
        round(median(cpu_ms), 1),
        len(asked),
        asked[0][0] if asked else 0.0,
        asked,
    )
