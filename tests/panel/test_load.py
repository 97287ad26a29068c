"""A slice of the long history: what a page asks the database, and that no question reads or counts a whole table."""

import re
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from execution_app.models import Position, TxIntent, TxReceipt, TxSend
from ops.panel import halving
from ops.panel.home import wallets
from ops.panel.lists import PAGES
from ops.watch import gauges, health, readiness
from tests.conftest import empty_database
from tests.panel import filling, measuring

INTENTS, POSITIONS = 3_000, 200
LONG = "signals tx_intents intent_transitions tx_sends tx_receipts venue_orders fills risk_reservations risk_log audit_log shadow_fills"
# The home page also sums what is open and what today brought, each by an index.
MOST_OF_A_LIST, MOST_OF_HOME = 12, 26


@pytest.fixture(scope="module")
def long_history(django_db_setup: None, django_db_blocker: object) -> Iterator[None]:
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        empty_database()
        filling.fill(INTENTS, POSITIONS)
        yield
        empty_database()
        connection.close()


@pytest.fixture
def client(long_history: None) -> Iterator[Client]:
    parts = (gauges, health, readiness, wallets)
    for part in parts:
        part.forget()
    yield measuring.somebody()
    for part in parts:
        part.forget()


def asked(client: Client, path: str) -> list[str]:
    """Every question that an answered page asks, once what is remembered between requests is."""
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    return [one["sql"] for one in captured.captured_queries]


def read_whole(question: str) -> list[str]:
    """Long tables that PostgreSQL can only read from end to end for this, whatever it would choose for a short one."""
    if not question.lstrip().upper().startswith(("SELECT", "WITH")):
        return []
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            cursor.execute("EXPLAIN " + question.replace("%", "%%"))
            plan = "\n".join(line for (line,) in cursor.fetchall())
        finally:
            cursor.execute("RESET enable_seqscan")
    scanned = re.findall(r"Seq Scan on (\w+)", plan)
    return [table for table in scanned if table in LONG.split()]


def test_the_filled_rows_are_what_the_application_would_have_written(long_history: None) -> None:
    settled = TxIntent.objects.filter(settled_at__isnull=False)
    assert settled.count() == INTENTS
    assert Position.objects.filter(state="open").count() == POSITIONS
    assert TxSend.objects.count() == TxIntent.objects.filter(nonce__isnull=False).count()
    assert (
        TxReceipt.objects.count()
        == TxIntent.objects.filter(state__in=["filled", "final_reverted"]).count()
        > 0
    )
    assert TxIntent.objects.filter(settled_at=None, state="held").count() == filling.HELD
    assert TxIntent.objects.filter(settled_at=None, state="pending_inclusion").count() == filling.UNDER_WAY
    # Constraints that are checked at the end of a transaction, and the foreign keys that the filling went round.
    connection.check_constraints()


@pytest.mark.parametrize("name", measuring.LISTS)
def test_a_list_counts_nothing_and_asks_little(client: Client, name: str) -> None:
    questions = asked(client, f"/admin/{measuring.LISTS[name]}/")
    assert [one for one in questions if "COUNT(" in one.upper()] == []
    assert len(questions) <= MOST_OF_A_LIST, questions
    assert [one for one in questions if read_whole(one)] == []


def test_home_asks_no_question_whose_cost_grows_with_the_history(client: Client) -> None:
    questions = asked(client, "/admin/")
    assert {one: tables for one in questions if (tables := read_whole(one))} == {}
    assert len(questions) <= MOST_OF_HOME


@pytest.mark.parametrize(
    "name",
    ["intents by key", "intents by hash", "intents by Telegram id", "find by signal id", "find by hash"],
)
def test_what_is_asked_for_whole_is_found_by_an_index(client: Client, name: str) -> None:
    path = measuring.pages()[name]
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(path)
    assert answer.status_code in {200, 302}
    assert "no rows" not in answer.content.decode()
    assert [one["sql"] for one in captured.captured_queries if read_whole(one["sql"])] == []


def test_pages_of_a_list_join_without_a_gap(client: Client) -> None:
    intents = f"/admin/{measuring.LISTS['intents']}/"
    keys = []
    for page in (1, 2):
        text = client.get(intents, {"p": page}).content.decode()
        keys += re.findall(r">(sig:source-\d+:load-\d+)<", text)
    newest = TxIntent.objects.order_by("-id").values_list("intent_key", flat=True)
    assert keys == list(newest[:100])
    last = client.get(intents, {"p": (INTENTS + filling.HELD + filling.UNDER_WAY) // 50}).content.decode()
    assert 'rel="next"' not in last
    assert 'rel="prev"' in last
    assert client.get(intents, {"p": PAGES + 1}).status_code == 302
    assert client.get(intents, {"all": ""}).content.count(b"/change/") < 200


def test_the_place_of_a_time_is_found_by_halving(long_history: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halving, "SLACK", 0)
    rows = TxIntent.objects.all()
    for intent in rows.order_by("id")[::617]:
        assert halving.first_at(rows, "accepted_at", intent.accepted_at) == intent.pk
    newest = rows.order_by("-id")[0]
    assert halving.first_at(rows, "accepted_at", newest.updated_at) == newest.pk + 1


def test_the_newest_hour_is_all_that_hour_and_nothing_else(client: Client) -> None:
    path = f"/admin/{measuring.LISTS['intents']}/"
    text = client.get(path, {"when": "hour", "state__exact": "held"}).content.decode()
    found = re.findall(r">(sig:source-\d+:load-\d+)<", text)
    assert found == list(
        TxIntent.objects.filter(state="held").order_by("-id").values_list("intent_key", flat=True)[:50]
    )
