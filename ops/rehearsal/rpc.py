"""A plain JSON-RPC window to the rehearsal node, and accounts that sign for it.

Never for a real chain: transactions are signed here without the engine's guards.
"""

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

REHEARSAL_CHAIN_ID = 31337
_TIMEOUT = urllib3.Timeout(connect=2, read=15)
_PAUSES_S = (0.002, 0.05)
_WAIT_S = 60.0
_OK = 200


class NodeUnreachableError(ConnectionError):
    """No answer, or none that JSON-RPC knows; what was sent may have arrived."""


class NodeRefusedError(RuntimeError):
    """The node's error object; `data` is the revert's, where it gives one."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class TransactionFailedError(RuntimeError):
    """A transaction was mined and reverted, or not mined within the time."""


def pauses() -> Iterator[float]:
    """Seconds between looks at what is being mined: short ones first, since a node without block times has it at once."""
    pause_s, longest_s = _PAUSES_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, longest_s)


class Node:
    """One node, by URL. Requests are not repeated here."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager(retries=False, timeout=_TIMEOUT, maxsize=4)
        self._ids = itertools.count(1)

    def request(self, method: str, *params: Any) -> Any:
        """Return the result. Raises NodeUnreachableError or NodeRefusedError."""
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            answer = self._http.request("POST", self.url, json=body)
            content = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as fault:
            raise NodeUnreachableError(f"{method}: {fault}") from fault
        if not isinstance(content, dict) or (answer.status != _OK and "error" not in content):
            raise NodeUnreachableError(f"{method}: HTTP {answer.status}")
        if error := content.get("error"):
            data = error.get("data")
            raise NodeRefusedError(
                int(error.get("code", 0)), str(error.get("message")), data if isinstance(data, str) else None
            )
        return content.get("result")

    def number(self, method: str, *params: Any) -> int:
        return int(self.request(method, *params), 16)

    def call(self, to: str, data: bytes, *, sender: str | None = None, value_wei: int = 0) -> bytes:
        """Run eth_call on the latest block. Raises NodeRefusedError on a revert."""
        message = {"to": to, "data": "0x" + data.hex(), "value": hex(value_wei)}
        if sender:
            message["from"] = sender
        return bytes.fromhex(self.request("eth_call", message, "latest")[2:])

    def require_rehearsal(self) -> None:
        """Raise ValueError on any chain but the rehearsal's: its keys are known to everyone."""
        chain_id = self.number("eth_chainId")
        if chain_id != REHEARSAL_CHAIN_ID:
            raise ValueError(f"chain {chain_id} is not the rehearsal chain {REHEARSAL_CHAIN_ID}")

    def genesis_hash(self) -> str:
        return str(self.request("eth_getBlockByNumber", "0x0", False)["hash"])

    def receipts(self, hashes: Iterable[str], wait_s: float = _WAIT_S) -> list[dict[str, Any]]:
        """Wait until all are mined. Raises TransactionFailedError when one reverted or time ran out."""
        deadline_s = time.monotonic() + wait_s
        found = []
        for tx_hash in hashes:
            looks = pauses()
            while (receipt := self.request("eth_getTransactionReceipt", tx_hash)) is None:
                if time.monotonic() > deadline_s:
                    raise TransactionFailedError(f"{tx_hash} is not mined after {wait_s} s")
                time.sleep(next(looks))
            if int(receipt["status"], 16) != 1:
                raise TransactionFailedError(f"{tx_hash} reverted")
            found.append(receipt)
        return found


@dataclass(frozen=True)
class Message:
    """A transaction to be; no `to` creates a contract."""

    to: str | None
    data: bytes
    gas: int
    value_wei: int = 0


class Sender:
    """An account and its key. Two processes that send from one account at once disturb each other."""

    def __init__(self, node: Node, key: bytes | str) -> None:
        self.node = node
        self._account: LocalAccount = Account.from_key(key)
        self.address: str = to_checksum_address(self._account.address)

    def next_nonce(self) -> int:
        return self.node.number("eth_getTransactionCount", self.address, "pending")

    def send(self, messages: Iterable[Message], first_nonce: int | None = None) -> list[str]:
        """Sign and send in order, without waiting; return the hashes."""
        nonce = self.next_nonce() if first_nonce is None else first_nonce
        tip_wei = 10**9
        cap_wei = 2 * self.node.number("eth_gasPrice") + tip_wei
        hashes = []
        for offset, message in enumerate(messages):
            transaction: dict[str, Any] = {
                "chainId": REHEARSAL_CHAIN_ID,
                "type": 2,
                "nonce": nonce + offset,
                "gas": message.gas,
                "maxFeePerGas": cap_wei,
                "maxPriorityFeePerGas": tip_wei,
                "value": message.value_wei,
                "data": message.data,
            }
            if message.to is not None:
                transaction["to"] = message.to
            signed = self._account.sign_transaction(transaction)
            raw = "0x" + bytes(signed.raw_transaction).hex()
            hashes.append(str(self.node.request("eth_sendRawTransaction", raw)))
        return hashes

    def transact(self, *messages: Message) -> list[dict[str, Any]]:
        """Send in order and wait until all are mined and none reverted."""
        return self.node.receipts(self.send(messages))


class Guise:
    """An account without its key: the rehearsal node sends for it, since everything there is play."""

    def __init__(self, node: Node, address: str) -> None:
        self.node = node
        self.address: str = to_checksum_address(address)

    def transact(self, *messages: Message) -> list[dict[str, Any]]:
        """Send in order and wait until all are mined and none reverted."""
        if not messages:
            return []
        self.node.require_rehearsal()
        self.node.request("anvil_impersonateAccount", self.address)
        try:
            hashes = [self.node.request("eth_sendTransaction", self._order(message)) for message in messages]
        finally:
            self.node.request("anvil_stopImpersonatingAccount", self.address)
        return self.node.receipts(hashes)

    def _order(self, message: Message) -> dict[str, str]:
        return {
            "from": self.address,
            "to": str(message.to),
            "data": "0x" + message.data.hex(),
            "gas": hex(message.gas),
            "value": hex(message.value_wei),
        }
