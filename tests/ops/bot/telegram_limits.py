"""How much Telegram takes from one bot, and what stands below its messages."""

import json
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
COUNTED = frozenset({"sendMessage", "sendPhoto", "sendDocument", "editMessageText"})


class Limits:
    """About 30 messages within any second, and one a second into a chat with short bursts; who asks for more waits a second."""

    def __init__(self, all_per_s: int = 30, chat_per_s: float = 1.0, chat_burst: int = 3) -> None:
        self.refused = 0
        self._all_per_s = all_per_s
        self._chat_per_s = chat_per_s
        self._chat_burst = chat_burst
        self._times_s: deque[float] = deque()
        self._left: dict[int, float] = defaultdict(lambda: float(chat_burst))
        self._seen_s: dict[int, float] = {}

    def retry_after_s(self, method: str, chat_id: int, now_s: float) -> int:
        """0 where the request is taken."""
        if method not in COUNTED:
            return 0
        while self._times_s and self._times_s[0] <= now_s - 1:
            self._times_s.popleft()
        passed_s = now_s - self._seen_s.get(chat_id, now_s)
        self._left[chat_id] = min(self._chat_burst, self._left[chat_id] + passed_s * self._chat_per_s)
        self._seen_s[chat_id] = now_s
        if len(self._times_s) >= self._all_per_s or self._left[chat_id] < 1:
            self.refused += 1
            return 1
        self._times_s.append(now_s)
        self._left[chat_id] -= 1
        return 0


def markup_of(fields: Mapping[str, Any]) -> Json | None:
    raw = fields.get("reply_markup")
    return json.loads(raw) if isinstance(raw, str) and raw else raw or None
