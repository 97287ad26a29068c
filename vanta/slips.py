"""Which unknown variable was meant to be one of ours. Pure.

A cap under a misspelt name is a cap that nobody reads, so such a name stops the start. A stranger's
variable must not: whoever runs this has a shell full of them. Names are compared word by word:
EXECUTION_MODE, MAX_NOTIONAL and VANTA_EXEC_MODE are slips, DATABASE_HOST and AWS_SECRET_KEY are not.
"""

from collections.abc import Collection, Sequence

# Written in more than one way; the left side is how our own names are compared, too.
SPELLINGS = {
    "EXECUTION": "EXEC",
    "ENVIRONMENT": "ENV",
    "DIRECTORY": "DIR",
    "FOLDER": "DIR",
    "MAXIMUM": "MAX",
    "LOGGING": "LOG",
    "DEPLOYMENT": "DEPLOY",
    "ADDR": "ADDRESS",
    "PASSWD": "PASSWORD",
    "PASS": "PASSWORD",
    "URI": "URL",
    "SECONDS": "S",
    "SEC": "S",
    "LEV": "LEVERAGE",
}
# These two words stand in everybody's variables (AWS_SECRET_KEY, REDIS_DOWNLOAD_URL, NEXT_PUBLIC_CHAIN_ID), so
# further words around them say nothing. The required ones among them are missed anyway when misspelt.
EVERYBODYS = frozenset(
    {
        *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ADMIN_TOKEN", "ALLOWED_HOSTS", "TRUSTED_PROXIES"),
        *("LOG_LEVEL", "LOG_FORMAT", "DEPLOY_ENV", "DEPLOY_VERSION", "CHAIN_ID"),
    }
)
# Near to ours, and yet other tools' (BASE_RPC_URL, VERANTA_CORE_API_URL, VERANTA_FEED_URL and TELEGRAM_API_BASE without a word, systemd's
# folder), or told to config/with-env.
NO_SLIPS = frozenset(
    {
        *(
            "BASE_URL",
            "API_URL",
            "API_BASE",
            "DATA_URL",
            "FEED_URL",
            "KEY_DIR",
            "KEY_PASSWORD",
            "STATE_DIRECTORY",
            "VANTA_EXPECTED_DEPLOY_ENV",
        ),
        *("WEBHOOK_URL", "WEBHOOK_PORT"),  # of the signals' door, as `make run` and Kubernetes tell them
    }
)
OWN_PREFIX = "VANTA"
FILE = "_FILE"
ONE_SLIP_FROM = 5  # letters of a whole name from which one wrong letter is a slip
TWO_SLIPS_FROM = 14
WORD_SLIP_FROM = 4  # letters of a single word
LEAST_WORDS = 2  # VENUE alone is in too many names


def meant(name: str, known: Collection[str], secrets: Collection[str]) -> str:
    """The known name that an unknown one was probably meant to be; blank for a stranger's.

    Names of `secrets` may end in _FILE. What is known itself is nobody's slip.
    """
    upper = name.upper()
    if upper in NO_SLIPS:
        return ""
    if upper.endswith(FILE):
        bare = upper.removesuffix(FILE)
        nearest = _nearest_whole(bare, secrets) or _nearest_by_words(bare, secrets)
        return f"{nearest}{FILE}" if nearest else ""
    files = [f"{secret}{FILE}" for secret in secrets]
    return _nearest_whole(upper, [*known, *files]) or _nearest_by_words(upper, known)


def _nearest_whole(upper: str, known: Collection[str]) -> str:
    """The same letters but for a slip or two, wherever the underscores are."""
    letters = upper.replace("_", "")
    distances = {candidate: distance(letters, candidate.replace("_", "")) for candidate in sorted(known)}
    best = min(distances, key=lambda candidate: distances[candidate], default="")
    if not best or len(letters) < ONE_SLIP_FROM:
        return ""
    return best if distances[best] <= (2 if len(letters) >= TWO_SLIPS_FROM else 1) else ""


def _nearest_by_words(upper: str, known: Collection[str]) -> str:
    words = _words(upper)
    fitting = [candidate for candidate in sorted(known) if _fits(words, _words(candidate), candidate)]
    return min(fitting, key=lambda candidate: distance(upper, candidate), default="")


def _fits(words: Sequence[str], wanted: Sequence[str], candidate: str) -> bool:
    """Whether some words are too many, too few or written otherwise, and the rest is the candidate's."""
    if words[:1] == [OWN_PREFIX]:
        return _fits(words[1:], wanted, candidate) or _lies_in(wanted, words[1:])
    if min(len(words), len(wanted)) < LEAST_WORDS:
        return words == wanted
    if len(words) <= len(wanted) and _lies_in(words, wanted):
        return True
    if candidate in EVERYBODYS:
        return False
    if len(words) == len(wanted):
        return _alike_all(sorted(words), sorted(wanted))
    if len(wanted) == LEAST_WORDS:
        # Two words among many may meet by chance: one more at an end is all that is believed.
        return len(words) == len(wanted) + 1 and any(
            _alike_all(part, wanted) for part in (words[1:], words[:-1])
        )
    return _lies_in(wanted, words)


def _lies_in(few: Sequence[str], many: Sequence[str]) -> bool:
    """Whether all of `few` are found among `many`, in that order."""
    rest = iter(many)
    return all(any(_alike(word, other) for other in rest) for word in few)


def _alike_all(words: Sequence[str], others: Sequence[str]) -> bool:
    return all(_alike(word, other) for word, other in zip(words, others, strict=True))


def _alike(word: str, other: str) -> bool:
    return word == other or (max(len(word), len(other)) >= WORD_SLIP_FROM and distance(word, other) <= 1)


def _words(upper: str) -> list[str]:
    """Singular, and each word in its one spelling."""
    return [SPELLINGS.get(word, _singular(word)) for word in upper.split("_") if word]


def _singular(word: str) -> str:
    if word.endswith("IES"):
        return f"{word[:-3]}Y"
    return word.removesuffix("S") if len(word) >= WORD_SLIP_FROM else word


def distance(one: str, other: str) -> int:
    """How many letters are to be added, dropped, replaced or swapped with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for line, letter in enumerate(one, 1):
        older, before, row = before, row, [line]
        for column, wanted in enumerate(other, 1):
            cost = min(before[column] + 1, row[-1] + 1, before[column - 1] + (letter != wanted))
            if line > 1 and column > 1 and letter == other[column - 2] and one[line - 2] == wanted:
                cost = min(cost, older[column - 2] + 1)
            row.append(cost)
    return row[-1]
