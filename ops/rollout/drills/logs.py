"""What processes said of the mode: which of them, how often, in which order. Pure."""

import re
from collections import Counter, defaultdict

FALL = "FAILING SAFE TO DRY MODE"
STOP = "emergency stop"
# The event alone: the same words are the reason of much that waits meanwhile.
STREAK = re.compile(r'event"?[=:] ?"health streak (\d+)/(\d+)"')
PID = re.compile(r'\bpid"?[=:] ?(\d+)')


def by_process(text: str, phrase: str) -> Counter[int]:
    """How often each process said it, by pid."""
    return Counter(pid for line in text.splitlines() if phrase in line and (pid := pid_of(line)))


def pid_of(line: str) -> int:
    """0 where a line names none."""
    found = PID.search(line)
    return int(found[1]) if found else 0


def streaks(text: str) -> dict[int, list[int]]:
    """The numbers of `health streak N/M` in the order in which each process said them."""
    found: dict[int, list[int]] = defaultdict(list)
    for line in text.splitlines():
        if (said := STREAK.search(line)) and (pid := pid_of(line)):
            found[pid].append(int(said[1]))
    return dict(found)


def has_climbed(text: str, pid: int) -> bool:
    """Whether its latest numbers are 1, 2, 3, up to what LIVE needs."""
    count = needed(text)
    return streaks(text).get(pid, [])[-count:] == list(range(1, count + 1))


def of_mode(text: str, pid: int, limit: int = 40) -> str:
    """The latest lines in which a process spoke of its mode, as they stand: evidence for who has to explain them."""
    lines = [line for line in text.splitlines() if FALL in line or STREAK.search(line)]
    return "\n".join([line for line in lines if f"{pid}" in line][-limit:])


def needed(text: str) -> int:
    """How many healthy readings LIVE needs, by what the processes say; 3 where none said it."""
    said = STREAK.search(text)
    return int(said[2]) if said else 3
