"""The chain as it was when the worker began: a test that died in the middle leaves it changed."""

import time

from ops.rehearsal.rpc import Node
from tests import real_parts


class Kept:
    """A snapshot, taken anew each time that it is gone back to, as the node asks for."""

    def __init__(self) -> None:
        self._node = Node(real_parts.anvil.url)
        self._snapshot = self._node.request("evm_snapshot")

    def restore(self) -> None:
        self._node.request("evm_setAutomine", False)
        self._node.request("anvil_dropAllTransactions")
        self._node.request("evm_revert", self._snapshot)
        self._snapshot = self._node.request("evm_snapshot")
        self._node.request("evm_setAutomine", True)
        self._node.request("evm_setTime", int(time.time()))
