"""Further nodes beside the one that everything goes through: they take no transaction, and one may say what is not so."""

from typing import Any

from execution_app.venues import onchain
from tests.proxy import Proxy

LIES = ("", "used", "fork", "reverted", "unused")
NOBODY = "0x" + "0" * 40
ASKED = (onchain.call_nonce_bitmap(NOBODY, 0), onchain.call_open_trade(NOBODY, 0, 0))
FULL = "txpool is full"
MANY = 1_000_000


class Liar(Proxy):
    """`used`: the wallet's first nonce is used, by none of ours, and each block is final. `fork`: receipts are for ever.

    `reverted`: so was whatever was mined. `unused`: nobody has spent a message, nor is there any trade.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._shown: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._shown.clear()
        self._lie("")
        self.faults.refuse_next, self.faults.refusal = MANY, FULL

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if request["method"] != "proxy_lie":
            return super().answer(request)
        self._lie(*request["params"])
        return {"jsonrpc": "2.0", "id": request["id"], "result": None}

    def _lie(self, lie: str) -> None:
        assert lie in LIES
        tells = {
            "": None,
            "used": self._say_used,
            "fork": self._remember,
            "reverted": self._say_reverted,
            "unused": self._say_unused,
        }
        self.faults.tell = tells[lie]

    def _say_used(self, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], request["params"]
        if method == "eth_getTransactionCount":
            return answer | {"result": hex(max(1, int(answer["result"], 16)))}
        if method == "eth_getTransactionReceipt":
            return answer | {"result": None}
        if method == "eth_getBlockByNumber" and params[0] == "finalized":
            return dict(self.forward(request | {"params": ["latest", *params[1:]]}))
        return answer

    def _remember(self, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["method"] != "eth_getTransactionReceipt":
            return answer
        if answer.get("result"):
            self._shown.setdefault(request["params"][0], answer["result"])
        return answer | {"result": self._shown.get(request["params"][0])}

    def _say_reverted(self, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        receipt = answer.get("result")
        if request["method"] != "eth_getTransactionReceipt" or not receipt:
            return answer
        return answer | {"result": receipt | {"status": "0x0", "logs": []}}

    def _say_unused(self, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        data = str(request["params"][0]["data"]) if request["method"] == "eth_call" else ""
        hides = any(data.startswith(f"0x{call[:4].hex()}") for call in ASKED) and "result" in answer
        return answer | {"result": "0x" + "0" * len(answer["result"][2:])} if hides else answer
