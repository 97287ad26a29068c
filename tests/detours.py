"""A whole stack in which each process reaches each of its servers by a port of its own, where it can be cut off.

    webhook, worker, tpsl, beat -> TcpProxy -> PostgreSQL | Redis | Proxy -> node

What belongs to the stage and not to the product goes straight: migrations, the seed, the keeper, and whoever watches.
"""

import json
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.stack import RunningStack
from tests.proxy import Proxy
from tests.tcp_proxy import TcpProxy

COMPONENTS = ("webhook", "worker", "tpsl", "beat")
# dependency: (variable, its server's name in ports.json)
DEPENDENCIES = {
    "rpc": ("BASE_RPC_URL", "anvil"),
    "redis": ("REDIS_URL", "valkey"),
    "postgres": ("DATABASE_URL", "postgres"),
}


class DetouredStack(RunningStack):
    """`ways[component, dependency]` is where that process meets that server; `node` can lie to all of them."""

    def __init__(self, folder: Path, *, from_nothing: bool = False, **settings: str) -> None:
        live = {"EXEC_MODE": "LIVE", "REHEARSAL_BLOCK_TIME_S": "1"}
        super().__init__(folder, from_nothing=from_nothing, **live, **settings)
        self._ports: dict[str, int] = json.loads((folder / "ports.json").read_text())
        self.node = Proxy(f"http://127.0.0.1:{self._ports['anvil']}")
        self.ways: dict[tuple[str, str], TcpProxy] = {}
        self._opened = ExitStack()

    def start(self) -> float:
        self._opened.enter_context(self.node)
        at = {**self._ports, "anvil": int(self.node.url.rpartition(":")[2])}
        detours: dict[str, dict[str, int]] = {}
        for component in COMPONENTS:
            for dependency, (variable, server) in DEPENDENCIES.items():
                way = self._opened.enter_context(TcpProxy(at[server]))
                self.ways[component, dependency] = way
                detours.setdefault(component, {})[variable] = way.port
        (self.folder / "detours.json").write_text(json.dumps(detours))
        took_s = super().start()
        kept = json.loads((self.folder / "ports.json").read_text())
        assert {name: kept[name] for name in self._ports} == self._ports, (
            "a port was taken meanwhile, so the detours lead nowhere"
        )
        return took_s

    def stop(self) -> None:
        # Nobody ends well who cannot reach its database.
        for way in self.ways.values():
            way.mend()
        super().stop()
        self._opened.close()
