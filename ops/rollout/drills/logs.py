"""What processes said of the mode: which of them, how often, in which order. Pure."""

import re
from collections import Counter, defaultdict
from datetime import datetime

FALL = "FAILING SAFE TO DRY MODE"
STOP = "emergency stop"
STREAK = re.compile(r"health streak (\d+)/(\d+)")
PID = re.compile(r'\bpid"?[=:] ?(\d+)')
AT = re.compile(r'\btimestamp"?[=:] ?"?([0-9T:.-]+)Z')


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


def needed(text: str) -> int:
    """How many healthy readings LIVE needs, by what the processes say; 3 where none said it."""
    said = STREAK.search(text)
    return int(said[2]) if said else 3


def latest(text: str, phrase: str) -> datetime | None:
    """When the last process said it, by its own clock; None without one."""
    found = [AT.search(line) for line in text.splitlines() if phrase in line]
    times = [datetime.fromisoformat(f"{said[1]}+00:00") for said in found if said]
    return max(times) if times else None
