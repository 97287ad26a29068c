"""How fast notices may leave: Telegram takes about 30 messages a second from a bot, and one a second into a chat.

Pure: times are seconds of whatever clock the caller has. Answers to people are counted and never wait. Notices keep to
fewer than Telegram takes, and only alarms may have the rest: so an alarm finds room at once, however many notices
are queued. Alarms wait for no chat's second, either, since Telegram takes short bursts.

A request may reach Telegram at any moment until its answer is here, so it counts from when it leaves until a second after
its answer: however unevenly requests travel, no second at Telegram's door sees more of them than are counted here.
"""

from collections import OrderedDict, deque
from math import floor

NORMAL_PER_S = 24  # notices that are no alarms
WHOLE = 28  # of Telegram's 30; two are left for answers
NORMAL_OF_WHOLE = 27  # so that requests may take a little over 0.1 s before notices leave more slowly
WITHIN_S = 1.02
SPARE = 2  # places that a busy moment left unused and the next one may take
CHAT_EVERY_S = 1.0
MOST_CHATS = 10_000


class Pace:
    """When the next notice may go to a chat, from what has left and what Telegram has said."""

    def __init__(self) -> None:
        self._under_way = 0
        self._answered_s: deque[float] = deque(maxlen=WHOLE)
        self._next_normal_s = 0.0
        self._quiet_until_s = 0.0
        self._last_s: OrderedDict[int, float] = OrderedDict()
        self._chat_quiet_until_s: dict[int, float] = {}

    def room(self, now_s: float, *, urgent: bool) -> int:
        """How many may leave now, whatever their chats."""
        if now_s < self._quiet_until_s:
            return 0
        recent = self._under_way + sum(one > now_s - WITHIN_S for one in self._answered_s)
        if urgent:
            return max(0, WHOLE - recent)
        behind = floor((now_s - self._next_normal_s) * NORMAL_PER_S + 1e-6) + 1
        return max(0, min(NORMAL_OF_WHOLE - recent, behind, SPARE + 1))

    def next_s(self, now_s: float, *, urgent: bool) -> float:
        """The earliest moment for which `room` may be more than 0; an answer that comes may make it an earlier one."""
        ready_s = max(now_s, self._quiet_until_s, 0.0 if urgent else self._next_normal_s)
        before = (WHOLE if urgent else NORMAL_OF_WHOLE) - self._under_way
        if before <= 0:
            return max(ready_s, now_s + WITHIN_S)
        if len(self._answered_s) >= before:
            ready_s = max(ready_s, self._answered_s[-before] + WITHIN_S)
        return ready_s

    def resting(self, now_s: float, *, urgent: bool) -> dict[int, float]:
        """Chats that take nothing now, and when they do again."""
        found = {chat: until_s for chat, until_s in self._chat_quiet_until_s.items() if until_s > now_s}
        if urgent:
            return found
        for chat, last_s in reversed(self._last_s.items()):
            if last_s + CHAT_EVERY_S <= now_s:
                break
            found[chat] = max(found.get(chat, 0.0), last_s + CHAT_EVERY_S)
        return found

    def left(self, chat_id: int, now_s: float, *, normal: bool = False) -> None:
        """A message goes to this chat now; `normal` where it is a notice and no alarm. `back` has to follow."""
        self._under_way += 1
        if normal:
            self._next_normal_s = max(self._next_normal_s, now_s - SPARE / NORMAL_PER_S) + 1 / NORMAL_PER_S
        self._touch(chat_id, now_s)

    def back(self, chat_id: int, now_s: float) -> None:
        """Telegram has answered, or never will."""
        self._under_way -= 1
        self._answered_s.append(now_s)
        self._touch(chat_id, now_s)

    def _touch(self, chat_id: int, now_s: float) -> None:
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
