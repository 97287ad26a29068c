"""How fast notices may leave: Telegram takes about 30 messages a second from a bot, and one a second into a chat.

Pure: times are seconds of whatever clock the caller has. Answers to people are counted and never wait, so notices leave
room for them. Alarms wait for no chat's second, since Telegram takes short bursts; they keep to the whole's pace.
"""

from collections import OrderedDict

ALL_PER_S = 25.0  # of Telegram's 30: the rest is for answers, and for requests that took longer on their way
SPARE = 3  # places that a busy moment left unused and the next one may take; with them 29 leave in a second at the most
CHAT_EVERY_S = 1.0
MOST_CHATS = 10_000


class Pace:
    """When the next notice may go to a chat, from what has left and what Telegram has said."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._quiet_until_s = 0.0
        self._last_s: OrderedDict[int, float] = OrderedDict()
        self._chat_quiet_until_s: dict[int, float] = {}

    def ready_at_s(self, chat_id: int, *, urgent: bool = False) -> float:
        """The earliest moment for a notice to this chat."""
        ready_s = max(self._next_s, self._quiet_until_s, self._chat_quiet_until_s.get(chat_id, 0.0))
        if not urgent and chat_id in self._last_s:
            ready_s = max(ready_s, self._last_s[chat_id] + CHAT_EVERY_S)
        return ready_s

    def left(self, chat_id: int, now_s: float) -> None:
        """A message, of whatever kind, goes to this chat now."""
        self._next_s = max(self._next_s, now_s - SPARE / ALL_PER_S) + 1 / ALL_PER_S
        self._last_s[chat_id] = now_s
        self._last_s.move_to_end(chat_id)
        if len(self._last_s) > MOST_CHATS:
            self._last_s.popitem(last=False)

    def too_many(self, chat_id: int, retry_after_s: float, now_s: float) -> None:
        """A 429 does not say whom it means: this chat waits, and everybody where another chat was told the same meanwhile."""
        self._chat_quiet_until_s = {
            chat: until_s for chat, until_s in self._chat_quiet_until_s.items() if until_s > now_s
        }
        if any(chat != chat_id for chat in self._chat_quiet_until_s):
            self._quiet_until_s = max(self._quiet_until_s, now_s + retry_after_s)
        until_s = max(self._chat_quiet_until_s.get(chat_id, 0.0), now_s + retry_after_s)
        self._chat_quiet_until_s[chat_id] = until_s
