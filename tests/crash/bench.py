"""The bench on which a process walks the road, dies, and another one finishes its work."""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import connection, connections, transaction
from django.test import Client

from execution_app.engine import heads, rounds
from execution_app.gate import watch
from execution_app.models import Trader, TxIntent, Wallet
from execution_app.node import rpc
from ops.rehearsal.keeper import Keeper
from ops.rehearsal.rpc import Node
from signals_app import decisions
from signals_app.models import Signal, SourceGrant
from tests import real_parts
from tests.guards import without_guards
from tests.proxy import Proxy
from tests.rig import Rig, rpc_call
from tests.timers import pass_a_minute

SOURCE = "crash"
UNDECIDED_WITHIN_S = 5.0


@dataclass
class Bench:
    """Verbs of the outside world (a client, a miner, a keeper) and of the doors (bells, sweeps)."""

    rig: Rig
    proxy: Proxy
    client: Client = field(default_factory=Client)
    _snapshot: str = ""

    def renew(self) -> None:
        """Take chain, tables and proxy back to a funded wallet that never traded."""
        if self._snapshot:
            assert rpc_call("evm_revert", self._snapshot)
        self._snapshot = rpc_call("evm_snapshot")
        self.proxy.reset()
        trader, wallet = self.rig.trader, self.rig.wallet
        with without_guards(), connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE traders, signals, source_grants, chains, mode_changes, heartbeats RESTART IDENTITY CASCADE"
            )
            cursor.execute("UPDATE control SET epoch = 1")
        self.rig.redis.flushall()
        real_parts.forget_database()
        # The chain begins anew, so the signer's memory of this wallet's nonces does, too.
        for journal in settings.ENVIRONMENT.signer_journal_dir.glob("*.journal"):
            journal.unlink()
        self.rig.trader = Trader.objects.create(
            tg_user_id=trader.tg_user_id, label=trader.label, address=trader.address
        )
        self.rig.wallet = Wallet.objects.create(
            trader=self.rig.trader, chain_id=wallet.chain_id, address=wallet.address
        )
        SourceGrant.objects.create(source=SOURCE, tg_user_id=trader.tg_user_id)

    def start_process(self) -> None:
        """What a process does before it works: fresh connections, then the gate opens."""
        connections.close_all()
        rpc.endpoints.cache_clear()
        self.rig.keeper = Keeper(Node(real_parts.anvil.url), real_parts.deployment)
        watcher = watch.start("worker")
        deadline_s = time.monotonic() + 10
        while watcher.ruling().mode != "LIVE" and time.monotonic() < deadline_s:
            watcher.look()
            if watcher.chain_problem:
                heads.follow()
        assert watcher.ruling().mode == "LIVE", watcher.ruling().reason

    def post(self, signal_id: str, side: str = "LONG") -> None:
        """The client sends a signal; a client without an answer sends it again."""
        body: dict[str, Any] = {
            "source": SOURCE,
            "signal_id": signal_id,
            "tg_user_id": self.rig.trader.tg_user_id,
            "symbol": "BTC-USD",
            "side": side,
        }
        if side != "CLOSE":
            body |= {"collateral_usdc": 5, "leverage_x": 2}
        raw = json.dumps(body).encode()
        secret = settings.ENVIRONMENT.webhook_hmac_secret.get_secret_value().encode()
        signature = hmac.new(secret, raw, hashlib.sha256).hexdigest()
        answer = self.client.post(
            "/signals", raw, content_type="application/json", headers={"X-Signature": signature}
        )
        assert answer.status_code in (200, 202), answer.content

    def decide(self, signal_id: str) -> None:
        """What the bell of the intake brings about."""
        decisions.decide(Signal.objects.values_list("pk", flat=True).get(signal_id=signal_id))

    def sweep_signals(self) -> None:
        deadline_s = time.monotonic() + UNDECIDED_WITHIN_S
        while Signal.objects.filter(decided_at=None).exists():
            assert time.monotonic() < deadline_s, "a signal stays undecided"
            for pk in decisions.undecided():
                decisions.decide(pk)
            time.sleep(0.02)

    def submit(self) -> None:
        rounds.submit(self.rig.wallet.pk)

    def track(self) -> None:
        for wallet_id in rounds.track():
            rounds.submit(wallet_id)

    def live_on(self) -> None:
        """The chain goes on, and so does whoever looks at it."""
        self.rig.mine()
        self.track()
        self.rig.keep()
        self.track()
        self.rig.mine(4)
        self.track()

    def age(self) -> None:
        """A minute passes for every timer of sends, two seconds for undecided signals."""
        pass_a_minute()
        with transaction.atomic(), connection.cursor() as cursor:
            # Signals are immutable by a trigger; only the sweep's patience with fresh ones is skipped here.
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(
                "UPDATE signals SET received_at = received_at - interval '2 seconds' WHERE decided_at IS NULL"
            )

    def proxy_call(self, method: str, *params: Any) -> Any:
        return rpc.Endpoint(f"{self.proxy.url}/steer").call(method, *params)

    def is_done(self) -> bool:
        decided = not Signal.objects.filter(decided_at=None).exists()
        return decided and not TxIntent.objects.filter(settled_at=None).exists()
