"""The rig, the proxy before its node, and what an operator and a sender may do to them: one move each."""

import time
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import Any

import redis as redis_py
from django.core.management import CommandError, call_command
from django.db import connection

from execution_app.engine import rounds
from execution_app.errors import Retryable
from execution_app.gate import control
from execution_app.models import Restriction, TxIntent, TxSend
from execution_app.moves import open_intent
from execution_app.node import rpc
from execution_app.states import Action, Origin, RestrictionKind
from execution_app.venues import events
from tests import database_copies, invariants, real_parts, redis_outages
from tests.conftest import empty_database
from tests.integration.tx.test_nonce_watch import spend_elsewhere
from tests.invariants import Stop
from tests.model.expected import Expected, Wish
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

WHY = ("--reason", "checked by the model", "--by", "ann")
NODE_AWAY = (Retryable, rpc.RpcFault, rpc.NodeError)
DRAIN_ROUNDS = 12
STOP, REDUCE_ONLY = RestrictionKind.STOP, RestrictionKind.REDUCE_ONLY


class Laboratory:
    def __init__(self, node: Proxy) -> None:
        empty_database()
        client = redis_py.Redis.from_url(real_parts.valkey.url, decode_responses=True)
        client.flushall()
        self.node = node
        self.node.reset()
        self.rig = Rig(client)
        self.rig.build()
        self.expected = Expected()
        self.foreign: set[str] = set()
        self.stops: list[Stop] = []
        self.has_copy = False
        self._lost: set[str] = set()
        self._closes = 0

    def close(self) -> None:
        self.rig.close()
        self.rig.redis.close()
        if self.has_copy:
            with connection.cursor() as cursor:
                cursor.execute("DROP SCHEMA kept CASCADE")
        connection.close()

    def ask(self, wish: Wish) -> TxIntent:
        """As intake does it, for a new signal and for a repeated one alike."""
        intent, _ = open_intent(
            key=wish.key,
            by="model",
            **self._terms(Action.OPEN, wish.symbol),
            is_long=True,
            collateral_usdc=wish.amount_usdc,
            leverage_x=Decimal(2),
            slippage_pct=Decimal("0.5"),
        )
        return intent

    def ask_to_close(self, symbol: str, reduce_pct: int | None) -> None:
        self._closes += 1
        part = Decimal(reduce_pct) if reduce_pct else None
        terms = self._terms(Action.CLOSE, symbol)
        open_intent(
            key=f"sig:model:close:{self._closes}",
            by="model",
            slippage_pct=Decimal("0.5"),
            reduce_pct=part,
            **terms,
        )

    def _terms(self, action: Action, symbol: str) -> dict[str, Any]:
        rig = self.rig
        whose = {"trader": rig.trader, "wallet": rig.wallet, "tg_user_id": rig.trader.tg_user_id}
        return {**whose, "action": action.value, "symbol": symbol}

    def submit(self) -> None:
        with suppress(*NODE_AWAY):
            self.rig.submit()

    def track(self) -> None:
        with suppress(*NODE_AWAY):
            self.rig.track()

    def compare(self) -> None:
        with suppress(*NODE_AWAY):
            rounds.compare_positions()

    def impose(self, kind: RestrictionKind) -> None:
        imposed = control.impose(kind, Origin.COMMAND, by="model", reason="the model says so")
        if kind is STOP and imposed.changed:
            self.stops.append(Stop(time.monotonic(), in_flight=tuple(imposed.in_flight)))

    def lift(self, kind: RestrictionKind) -> None:
        if kind is STOP:
            self._note_lifted()
        control.lift(kind, Origin.COMMAND, by="model")

    def _note_lifted(self) -> None:
        if self.stops and self.stops[-1].lifted_at_s == float("inf"):
            last = self.stops[-1]
            self.stops[-1] = Stop(last.imposed_at_s, time.monotonic(), last.in_flight)

    def flush(self) -> None:
        """Everybody notices, then everybody is LIVE again: what happens between is another test's matter."""
        redis_outages.flush()
        redis_outages.await_mode("DRY")
        self.await_live()

    def await_live(self) -> None:
        if not Restriction.objects.filter(lifted_at=None).exists():
            redis_outages.await_mode("LIVE")

    def reorganise(self, depth: int) -> None:
        """Never what is final; the node forgets the pool with the blocks."""
        head = int(rpc_call("eth_blockNumber"), 16)
        final = int(rpc_call("eth_getBlockByNumber", "finalized", False)["number"], 16)
        depth = min(depth, head - final)
        if depth > 0 and head - depth > real_parts.deployment.deployed_at_block:
            rpc_call("anvil_reorg", depth, [])
            self.node.reset_pool()

    def spend_elsewhere(self, ahead: int) -> None:
        """The key signs a transfer that we do not know, in the next slot of the chain or one behind it."""
        count = int(rpc_call("eth_getTransactionCount", self.rig.wallet.address, "latest"), 16)
        with suppress(rpc.NodeError):
            self.foreign.add(spend_elsewhere(self.rig, count + ahead))

    def keep_copy(self) -> None:
        database_copies.take()
        self.has_copy = True

    def restore(self) -> None:
        """The database as it was; what the world did since is not undone."""
        if not self.has_copy:
            return
        sent = set(TxSend.objects.values_list("tx_hash", flat=True))
        asked = set(TxIntent.objects.values_list("intent_key", flat=True))
        database_copies.give_back()
        self.has_copy = False
        self._lost |= sent - set(TxSend.objects.values_list("tx_hash", flat=True))
        self.expected.gone |= asked - set(TxIntent.objects.values_list("intent_key", flat=True))
        self._note_lifted()
        if Restriction.objects.filter(kind=STOP, lifted_at=None).exists():
            known = tuple(TxSend.objects.values_list("tx_hash", flat=True))
            self.stops.append(Stop(time.monotonic(), in_flight=known))
        self.rig.wallet.refresh_from_db()

    def decide(self) -> None:
        """An operator takes over what the chain says of a halted wallet, and lets it go on."""
        for verb in (("adopt", "123", "--yes"), ("resume", "123")):
            with suppress(CommandError):
                call_command("wallet", *verb, *WHY, stdout=_Nowhere())

    def drain(self) -> None:
        """All faults end, an operator does what is to be done; then nothing may be left that nobody can see."""
        self.node.release("all")
        self.node.faults = type(self.node.faults)()
        for kind in (STOP, REDUCE_ONLY):
            self.lift(kind)
        self.await_live()
        for _ in range(DRAIN_ROUNDS):
            pass_a_minute()
            self.submit()
            self.rig.mine()
            self.track()
            self.rig.keep()
            self.track()
            self.rig.mine(4)
            self.track()
            self.compare()
            self.decide()
            if self._is_drained():
                return

    def _is_drained(self) -> bool:
        self.rig.wallet.refresh_from_db()
        busy = TxIntent.objects.filter(settled_at=None).exists()
        return not busy and not self.rig.wallet.halted_reason

    def check(self, *, drained: bool) -> None:
        ours = set(TxSend.objects.values_list("tx_hash", flat=True))
        invariants.check(
            self.node, stops=self.stops, foreign=(self.foreign | self._lost) - ours, drained=drained
        )
        rows = {
            row[0]: (row[1], row[2]) for row in TxIntent.objects.values_list("intent_key", "state", "reason")
        }
        self.expected.check(rows, self._registered())

    def _registered(self) -> Counter[Decimal]:
        trading = real_parts.deployment.trading
        first = hex(real_parts.deployment.deployed_at_block)
        logs = rpc_call("eth_getLogs", {"address": trading, "fromBlock": first, "toBlock": "latest"})
        found = (events.decode(entry, trading_address=trading) for entry in logs)
        return Counter(
            event.collateral_usdc
            for event in found
            if isinstance(event, events.OrderRegistered)
            and event.is_open
            and event.trader.lower() == self.rig.trader.address.lower()
        )


class _Nowhere:
    def write(self, text: str) -> None:
        """Commands talk to an operator, who is not there."""

    def flush(self) -> None:
        """Nothing is kept."""
