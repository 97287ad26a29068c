"""Is an endpoint on our chain? Asked when it is new, and whenever it may have become another.

Behind one address may be another machine after each connection, and after each
rest. Until an endpoint has said that it is on our chain, its answers count for
nothing. One that is on another is out until the process is started again.
"""

import threading
from typing import Any

from django.conf import settings

from execution_app.node.faults import RpcFault

_genesis_lock = threading.Lock()
_genesis_hash = ""


def expect_genesis(genesis_hash: str) -> None:
    """The first block of the chain that this database trades on; blank while it trades on none."""
    global _genesis_hash  # noqa: PLW0603  (one per process, as the database is)
    with _genesis_lock:
        _genesis_hash = genesis_hash


class Identity:
    """What one endpoint has said of itself. Thread-safe: each field is replaced as a whole."""

    def __init__(self) -> None:
        self.foreign = ""  # why it is out for good
        self._confirmed: tuple[int, str] | None = None

    def doubt(self) -> None:
        self._confirmed = None

    def is_confirmed(self, dials: int) -> bool:
        """`dials` is how many connections were begun: more than then, and it may be another machine."""
        return not self.foreign and self._confirmed == (dials, _genesis_hash)

    def judge(self, chain_id: Any, genesis: Any, dials: int) -> str:
        """Take the answers to eth_chainId and to the question for block 0; returns why they are not our chain's.

        Raises RpcFault where they say nothing.
        """
        try:
            found_id, found_hash = int(chain_id, 16), str(genesis["hash"])
        except (TypeError, ValueError, KeyError) as error:
            raise RpcFault("the node does not say which chain it is on") from error
        expected_id, expected_hash = settings.ENVIRONMENT.chain_id, _genesis_hash
        if found_id != expected_id:
            self.foreign = f"the node is on chain {found_id}, CHAIN_ID is {expected_id}"
        elif expected_hash and found_hash != expected_hash:
            self.foreign = (
                f"the node's chain began with block {found_hash}, this database trades on {expected_hash}"
            )
        else:
            self._confirmed = (dials, expected_hash)
        return self.foreign
