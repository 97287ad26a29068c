"""Who wants a replacement before its time, what speaks against it, and what is written."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from execution_app.audit_words import AuditOrigin
from execution_app.engine import replace, speedups
from execution_app.errors import Refused, Stale
from execution_app.models import AuditEntry, SignRequest, TxIntent, TxSend, Wallet
from execution_app.states import IntentState
from tests.execution import rows
from tests.execution.intents import again, in_slot, sent, shortly, waiting

pytestmark = pytest.mark.usefixtures("database")
S = IntentState
GWEI = 10**9
WHY: dict[str, Any] = {"by": "ann", "reason": "the market runs"}


@pytest.fixture(autouse=True)
def _ceiling(settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"max_fee_per_gas_gwei": 20, "enable_rbf": True, "at_fee_ceiling": "wait"}
    )


@pytest.fixture
def wallet() -> Wallet:
    rows.wallet()
    return Wallet.objects.get(pk=rows.wallet())


def under_way(wallet: Wallet, nonce: int = 3, *, attempts: int = 1, **fields: Any) -> TxIntent:
    """A node holds its newest bytes and has not mined them."""
    intent = in_slot(wallet, nonce, S.PENDING_INCLUSION)
    sound = {"max_fee_wei": GWEI, "tip_wei": 1, "held_at": shortly(-1), "signed_at": shortly(-9)}
    for attempt in range(attempts):
        sent(intent, attempt, **(sound | fields))
    return intent


def ask(intent: TxIntent, attempt: int = 0, **who: Any) -> TxSend:
    return speedups.request(intent.intent_key, attempt, **(WHY | who))


@pytest.mark.parametrize("who", [{"by": " "}, {"reason": "\t"}])
def test_whoever_asks_has_to_be_named_with_a_reason(wallet: Wallet, who: dict[str, Any]) -> None:
    intent = under_way(wallet)
    with pytest.raises(Refused, match=r"^whoever speeds up has to be named, with a reason$"):
        ask(intent, **who)
    assert again(intent).speed_up_asked_at is None


def test_what_has_no_wallet_has_no_slot(wallet: Wallet) -> None:
    intent = TxIntent.objects.get(pk=rows.intent())
    under_way(wallet)
    for key in (intent.intent_key, "sig:nobody:1"):
        with pytest.raises(Refused, match=r"^no intent of that key has a slot$"):
            speedups.request(key, 0, **WHY)


def test_a_wish_is_written_in_one_commit_under_the_wallets_lock(wallet: Wallet) -> None:
    intent, beside = under_way(wallet, 1, attempts=2), under_way(wallet, 4)
    TxIntent.objects.update(updated_at="2026-01-01T00:00:00Z")
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        ask(intent, 1)
    with CaptureQueriesContext(connection) as asked:
        told = ask(intent, 1, origin=AuditOrigin.TELEGRAM)
    assert any("FOR NO KEY UPDATE" in query["sql"] for query in asked)
    assert (told.intent, told.attempt) == (intent, 1)
    stored = again(intent)
    assert stored.speed_up_asked_at == stored.updated_at
    assert again(beside).speed_up_asked_at is None
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.origin) == ("speed_up_asked", "ann", "telegram")
    assert (entry.subject, entry.reason) == (intent.intent_key, WHY["reason"])
    assert entry.before == {"attempt": 1, "hash": told.tx_hash, "max_fee_wei": str(GWEI)}


def test_who_does_not_say_otherwise_used_the_command(wallet: Wallet) -> None:
    ask(under_way(wallet))
    assert AuditEntry.objects.get().origin == "command"


def test_another_that_took_its_place_is_told(wallet: Wallet) -> None:
    intent = under_way(wallet, attempts=2)
    words = "transaction 1 has taken the place of transaction 0 meanwhile"
    with pytest.raises(Stale, match=f"^{words}$"):
        ask(intent, 0)
    assert again(intent).speed_up_asked_at is None


def test_what_stands_in_the_row_counts_not_what_was_seen(
    monkeypatch: pytest.MonkeyPatch, wallet: Wallet
) -> None:
    intent = under_way(wallet)
    locking = Wallet.objects.select_for_update

    def meanwhile(**how: Any) -> Any:
        rows.update("tx_intents", intent.pk, {"state": "mined"})
        return locking(**how)

    monkeypatch.setattr(Wallet.objects, "select_for_update", meanwhile)
    with pytest.raises(Refused, match="it is mined"):
        ask(intent)


# What speaks against it


def against(intent: TxIntent) -> str:
    return speedups.obstacle(again(intent))


def test_nothing_speaks_against_what_a_node_holds(wallet: Wallet) -> None:
    intent = under_way(wallet)
    assert against(intent) == ""
    assert speedups.newest(intent) == intent.sends.get()


@pytest.mark.parametrize("state", [S.MINED, S.PENDING_INCLUSION])
def test_only_what_has_left_and_is_not_mined_is_sped_up(wallet: Wallet, state: S) -> None:
    intent = in_slot(wallet, 1, state)
    if state is S.MINED:
        sent(intent, held_at=shortly(-1))
    assert against(intent) == f"only what has left and is not mined can be sped up: it is {state}"
    assert against(waiting(wallet)).endswith("it is pending")


def test_what_is_settled_is_not_sped_up(wallet: Wallet) -> None:
    intent = under_way(wallet)
    intent.settled_at = shortly(0)
    assert speedups.obstacle(intent).startswith("only what has left")


def test_what_no_node_holds_is_offered_again(wallet: Wallet) -> None:
    words = "no node is known to hold its newest bytes; the same are offered again until one does"
    assert against(under_way(wallet, held_at=None)) == words


def test_where_no_fee_is_raised_none_is(settings: Settings, wallet: Wallet) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"enable_rbf": False})
    assert against(under_way(wallet)) == "ENABLE_RBF is false: no fee is raised"


def test_a_halted_wallet_signs_nothing(wallet: Wallet) -> None:
    Wallet.objects.update(halted_reason="lost", halted_at="2026-01-01T00:00:00Z")
    assert against(under_way(wallet)) == "its wallet is halted: lost"


def test_whose_fee_decides_is_the_lowest_of_its_wallet(wallet: Wallet) -> None:
    other = Wallet.objects.get(pk=rows.wallet())
    under_way(other, 1)
    in_slot(wallet, 1, S.MINED)
    intent = under_way(wallet, 5)
    under_way(wallet, 6)
    assert against(intent) == ""
    later, first = under_way(wallet, 4), under_way(wallet, 3)
    assert against(intent) == f"it waits behind {first.intent_key}, whose fee decides: speed that up"
    assert against(later) == against(intent)
    assert against(first) == ""


@pytest.mark.parametrize(("attempt", "most"), [(9, False), (10, True), (11, True)])
def test_a_slot_is_replaced_so_often_and_no_more(wallet: Wallet, attempt: int, most: bool) -> None:
    assert replace.MAX_BUMPS == 10
    intent = under_way(wallet, attempts=0)
    sent(intent, attempt, max_fee_wei=GWEI, held_at=shortly(-1))
    told = f"it was replaced {attempt} times: more often only by itself, where the base fee is above what it pays"
    assert against(intent) == (told if most else "")


def test_what_was_asked_for_is_not_asked_for_again(wallet: Wallet) -> None:
    intent, beside = under_way(wallet, 1), under_way(Wallet.objects.get(pk=rows.wallet()), 1)
    ask(intent)
    assert against(intent) == "its replacement was asked for already"
    SignRequest.objects.create(intent=intent, attempt=1, kind="bump", max_fee_wei=9, tip_wei=1)
    assert against(intent) == "its signer was asked for a replacement already"
    assert against(beside) == ""


def test_at_its_ceiling_there_is_no_room(wallet: Wallet) -> None:
    assert (
        against(under_way(wallet, max_fee_wei=19 * GWEI))
        == "its fee ceiling leaves no room for a replacement"
    )
