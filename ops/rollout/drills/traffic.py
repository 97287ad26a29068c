"""Signed signals as a source sends them, with each answer and how long it took. No database, no Django."""

import hashlib
import hmac
import itertools
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import urllib3

ACCEPTED = 202
KNOWN = 200
BUSY = 503  # "come again": nothing was stored
NOBODY = 0  # the status where no HTTP answer came
TIMEOUT_S = 10.0
COME_AGAIN_S = 0.1
COME_AGAIN_WITHIN_S = 30.0
# So that what waits for the mode is executed afterwards instead of expiring.
MAX_LAG_S = 600
OPEN = {"side": "LONG", "collateral_usdc": 5, "leverage_x": 2, "max_lag_s": MAX_LAG_S}


@dataclass
class Sender:
    """One source of signals. Thread-safe; `keys` are those that the stack says it has."""

    url: str
    secret: str
    source: str
    tg_user_id: int
    symbol: str
    prefix: str
    answers: Counter[int] = field(default_factory=Counter)
    keys: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=urllib3.Timeout(total=TIMEOUT_S))
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def open(self) -> tuple[int, str]:
        """A new opening signal; returns the status and its intent_key."""
        return self.send(self.fresh_id(), **OPEN)

    def fresh_id(self) -> str:
        return f"{self.prefix}-{next(self._numbers)}"

    def close(self) -> tuple[int, str]:
        """Close all that is open on the symbol."""
        return self.send(self.fresh_id(), side="CLOSE")

    def send(self, signal_id: str, **fields: Any) -> tuple[int, str]:
        """One request; status NOBODY where no answer came."""
        content = {
            "source": self.source,
            "signal_id": signal_id,
            "tg_user_id": self.tg_user_id,
            "symbol": self.symbol,
            **fields,
        }
        body = json.dumps(content).encode()
        signed = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Signature": signed}
        began_s = time.monotonic()
        try:
            status = self._http.request("POST", f"{self.url}/signals", body=body, headers=headers).status
        except (OSError, urllib3.exceptions.HTTPError):
            status = NOBODY
        key = f"sig:{self.source}:{signal_id}"
        with self._lock:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            self.answers[status] += 1
            if status == ACCEPTED:
                self.keys.append(key)
        return status, key

    def burst(self, count: int) -> None:
        """So many opening signals at once."""
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: self.open(), range(count)))

    def copies(self, count: int) -> str:
        """One opening signal, so many times at once, each until it was told more than BUSY; returns its key."""
        signal_id = self.fresh_id()

        def insist(_: int) -> None:
            deadline_s = time.monotonic() + COME_AGAIN_WITHIN_S
            while self.send(signal_id, **OPEN)[0] == BUSY and time.monotonic() < deadline_s:
                time.sleep(COME_AGAIN_S)

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(insist, range(count)))
        return f"sig:{self.source}:{signal_id}"


class Traffic:
    """Opening signals without rest, in a thread of its own, until it is ended.

    With `insist` what was not taken is sent again, as a source does that wants it to arrive.
    """

    def __init__(self, sender: Sender, every_s: float, *, insist: bool = False) -> None:
        self._sender, self._every_s, self._insist = sender, every_s, insist
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(4 * TIMEOUT_S)

    def _run(self) -> None:
        while True:
            signal_id = self._sender.fresh_id()
            while self._sender.send(signal_id, **OPEN)[0] not in {ACCEPTED, KNOWN} and self._insist:
                if self._ended.wait(self._every_s):
                    return
            if self._ended.wait(self._every_s):
                return
