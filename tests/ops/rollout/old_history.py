"""History that ended long ago, in every table that retention looks at, beside what must stay."""

from datetime import UTC, datetime, timedelta

from django.db import connection

from execution_app.states import IntentState
from tests.execution import rows
from tests.guards import without_guards

TODAY = datetime.now(UTC).date()
OLD, OLDER = TODAY - timedelta(days=100), TODAY - timedelta(days=101)
LEAVES = ("intent_transitions", "risk_log", "shadow_fills", "django_admin_log", "price_ticks")
# What is asked for in the same words before and after; `signals` but for what senders added.
STAYS = ("tx_intents", "tx_sends", "tx_receipts", "fills", "positions", "risk_reservations")


def settled(day: object, state: IntentState = IntentState.FINAL_REVERTED, moves: int = 4) -> int:
    """An intent that ended at noon of that day, with its moves, its reservation and its estimate."""
    pk = rows.intent_in(state)
    at = f"{day} 12:00:00+00"
    trader = rows.one("SELECT trader_id FROM tx_intents WHERE id = %s", pk)
    held = rows.reservation(intent_id=pk, trader_id=trader)
    rows.update("risk_reservations", held, {"state": "released", "notional_usdc": 0, "released_at": at})
    rows.insert("shadow_fills", {"intent_id": pk, "oracle_price": 1, "price": "1.5", "fee_usdc": 0})
    for number in range(moves):
        rows.transition(intent_id=pk, at=at, why=f'step {number}, "quoted"\n€')
    with without_guards():
        rows.update("tx_intents", pk, {"settled_at": at})
    return pk


def make(intents: int = 3) -> None:
    """Two old days with so many intents each, one of today, one that is held for ever, signals, and the admin site's log."""
    for day in (OLDER, OLD, TODAY):
        for _ in range(intents):
            settled(day)
        decided = {"decided_at": f"{day} 12:00:00+00", "decision": "rejected"}
        rows.signal(received_at=f"{day} 12:00:00+00", meta='{"why": "a long story", "n": 1.10}', **decided)
        rows.signal(received_at=f"{day} 12:00:00+00", **decided)
    held = rows.intent_in(IntentState.PENDING, accepted_at=f"{OLDER} 00:00:00+00")
    rows.transition(intent_id=held, at=f"{OLDER} 00:00:00+00")
    rows.signal(received_at=f"{OLDER} 12:00:00+00", meta='{"nobody": "decided it"}')
    columns = (
        "password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined"
    )
    person = rows.one(
        f"INSERT INTO auth_user ({columns}) VALUES ('', false, 'ann', '', '', '', true, true, now()) RETURNING id"
    )
    entry = {"object_repr": "x", "action_flag": 1, "change_message": "[]", "user_id": person}
    for day in (OLD, TODAY):
        rows.insert("django_admin_log", entry | {"action_time": f"{day} 12:00:00+00"})
        for second in (0, 5):
            at = f"{day} 12:00:0{second}+00"
            rows.insert("price_ticks", {"symbol": "BTC-USD", "at": at, "price": "100000.5"})


def everything() -> dict[str, dict[int, str]]:
    """Each row of the tables above and of `signals` as JSON, by id; times in UTC."""
    found = {}
    with connection.cursor() as cursor:
        for table in (*LEAVES, *STAYS, "signals"):
            cursor.execute(f"SELECT id, row_to_json(t)::text FROM {table} t ORDER BY id")
            found[table] = dict(cursor.fetchall())
    return found
