"""Ages as they are told in whole seconds, whatever a machine loses between writing a row and reading of it."""

import time


def told(words: str, age_s: int, since_s: float) -> set[str]:
    """`words` with every age that a row may have by now which was `age_s` old at `since_s`, of time.monotonic()."""
    return {words.format(age_s + more_s) for more_s in range(int(time.monotonic() - since_s) + 2)}
