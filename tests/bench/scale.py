"""What the same machine does without us: the node alone takes and mines transactions that were signed before."""

import json
import time
from decimal import Decimal
from typing import Any

import urllib3
from eth_account import Account
from eth_utils.crypto import keccak

from execution_app.node import fees, signers
from execution_app.node.signing import ecdsa, keyfiles, transactions
from execution_app.venues import onchain
from ops.rehearsal import venue
from ops.rehearsal.rpc import Node
from tests import real_parts
from tests.bench.failed import BenchError

ETH = 10**18
BATCH = 50  # as many as the engine puts into one request
GAS = 100_000
FEE = fees.Fee(100 * 10**9, 10**9)
WAIT_S = 120.0


def measure(node: Node, to: str, count: int) -> dict[str, Any]:
    """An account of its own sends `count` calls of `to` in batches over one connection. Blocks come by themselves."""
    account = Account.create()
    data = _calldata(account.address)
    venue.fund(node.url, real_parts.deployment, account.address, 100 * ETH, 0)
    begun_s = time.monotonic()
    raws = [_signed(account, to, data, nonce) for nonce in range(count)]
    signed_s = time.monotonic()
    http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30))
    for start in range(0, count, BATCH):
        calls = [
            {"jsonrpc": "2.0", "id": at, "method": "eth_sendRawTransaction", "params": [raw]}
            for at, raw in enumerate(raws[start : start + BATCH])
        ]
        answers = json.loads(http.request("POST", node.url, json=calls).data)
        if any("result" not in answer for answer in answers):
            raise BenchError(f"the node refuses: {answers[0]}")
    accepted_s = time.monotonic()
    while node.number("eth_getTransactionCount", account.address, "latest") < count:
        if time.monotonic() - accepted_s > WAIT_S:
            raise BenchError(f"the node does not mine {count} transactions within {WAIT_S} s")
        time.sleep(0.02)
    mined_s = time.monotonic()
    return {
        "transactions": count,
        "signed_per_s": round(count / (signed_s - begun_s)),
        "accepted_per_s": round(count / (accepted_s - signed_s)),
        "mined_per_s": round(count / (mined_s - signed_s)),
    }


def _calldata(trader: str) -> bytes:
    """An order like the engine's."""
    order = onchain.OpenOrder(
        trader=trader,
        pair_index=onchain.PAIRS["BTC-USD"],
        is_long=True,
        collateral_usdc=Decimal(5),
        leverage_x=Decimal(2),
        wanted_price=Decimal(100_000),
        slippage_pct=Decimal("0.5"),
    )
    return onchain.encode_delegated(trader, onchain.encode_open(order))


def _signed(account: Any, to: str, data: bytes, nonce: int) -> str:
    slot = signers.Slot(
        chain_id=31337,
        sender=account.address,
        nonce=nonce,
        to=to,
        value_wei=0,
        gas_limit=GAS,
        data=data,
    )
    payload = transactions.payload(slot, FEE)
    r, s, parity = keyfiles._signed(account, payload)
    made = ecdsa.recovered(keccak(payload), r, s, account.address, parity)
    return "0x" + transactions.assemble(slot, FEE, made).raw.hex()
