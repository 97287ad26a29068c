"""One bounded question to a node: its chain, and the age of its head.

Deliberately apart from the clients that trade: no retries, no rotation, no
circuit breaker, so it says what one request meets right now.
"""

import json
import time
from typing import Any

import urllib3

HEAD_WITHIN_S = 30
_ANSWER_LIMIT_BYTES = 256 * 1024

_http = urllib3.PoolManager(num_pools=4, maxsize=2, retries=False)


WRONG_CHAIN = "wrong chain"


def problem(url: str, chain_id: int, timeout_s: float, genesis_hash: str = "") -> str:
    """Why this endpoint is of no use, in fixed words; blank when it is fine. A blank genesis is any."""
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_getBlockByNumber", "params": ["latest", False]},
        {"jsonrpc": "2.0", "id": 3, "method": "eth_getBlockByNumber", "params": ["0x0", False]},
    ]
    try:
        response = _http.request(
            "POST",
            url,
            body=json.dumps(calls),
            headers={"Content-Type": "application/json"},
            timeout=urllib3.Timeout(total=timeout_s),
            preload_content=False,
        )
        try:
            body = response.read(_ANSWER_LIMIT_BYTES, decode_content=True)
        finally:
            response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return type(error).__name__
    try:
        answers = {item["id"]: item["result"] for item in json.loads(body)}
        if genesis_hash and answers[3]["hash"] != genesis_hash:
            return WRONG_CHAIN
        return _judge(int(answers[1], 16), int(answers[2]["timestamp"], 16), chain_id)
    except (ValueError, KeyError, TypeError):
        return "not a JSON-RPC answer"


def _judge(found_chain_id: int, head_timestamp: Any, chain_id: int) -> str:
    if found_chain_id != chain_id:
        return WRONG_CHAIN
    age_s = int(time.time()) - head_timestamp
    if age_s > HEAD_WITHIN_S:
        return f"head is {age_s} s old"
    return ""
