"""Takes secrets out of text before it is written down: those that are known, and what looks like one.

Pure. What is known is replaced wherever it stands; beyond that a value after a telling name is replaced, and
whoever logs in within a URL. A private key that nothing names looks like a transaction's hash and is not seen, so
keys are never put into a message in the first place.
"""

import json
import re
from collections.abc import Iterable
from functools import partial
from urllib.parse import quote, unquote, urlsplit

GONE = "[scrubbed]"
SHORTEST = 6  # what is shorter would tear words apart, and is no secret

_NAMES = (
    r"authorization|x-signature|webhook-signature|bearer|passw(?:or)?d|passphrase|secret(?:[_-]key)?|mnemonic|"
    r"(?:admin|api|access|auth|bot|session|csrf)[_-]?token|api[_-]?key|private[_-]?key|sessionid"
)
# name=value, "name": "value", name: Bearer value
_NAMED = re.compile(
    rf"""(?ix)
    ((?<![a-z])(?:[a-z0-9_]*_)?(?:{_NAMES}))
    (\\?["']? \s*[:=]\s* \\?["']? (?:(?:bearer|basic)\s+)?)
    ([^\s"'\\,;&)}}\]]{{{SHORTEST},}})
    """
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+([A-Za-z0-9._~+/=-]{8,})")
_LOGIN = re.compile(r"(?<=://)([^\s/@:]*):([^\s/@]+)@")
_BOT = re.compile(r"(?<=/bot)\d{5,}:[A-Za-z0-9_-]{20,}")
# One of these, in small letters, stands in whatever the patterns above find; to look for them costs a hundredth of that.
_TELLING = (
    *("authorization", "signature", "bearer", "basic", "passw", "passphrase", "secret"),
    *("mnemonic", "token", "api", "private", "sessionid", "/bot"),
)


class Scrubber:
    """Called with a text it answers the text without secrets; `known` are the secrets themselves."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        words = {form for secret in known for form in _forms(secret)}
        self._longest_first = sorted((word for word in words if len(word) >= SHORTEST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, self._longest_first)))

    def __call__(self, text: str) -> str:
        # To look for each word by itself costs a tenth of looking for all of them at every letter.
        if any(word in text for word in self._longest_first):
            text = self._known.sub(GONE, text)
        if "://" in text:
            text = _LOGIN.sub(rf"\1:{GONE}@", text)
        if not _may_tell(text):
            return text
        text = _BOT.sub(GONE, text)
        text = _NAMED.sub(rf"\1\2{GONE}", text)
        return _BEARER.sub(rf"\1 {GONE}", text)


def _may_tell(text: str) -> bool:
    """False where no pattern would find anything; letters beyond ASCII may count as one of ours to a pattern."""
    small = text.lower()
    return not text.isascii() or any(word in small for word in _TELLING)


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a text. Of a URL only what is secret in it: login, path and query."""
    url = urlsplit(secret) if "://" in secret else None
    if url is None:
        plain = {secret}
    else:
        tail = f"{url.path}?{url.query}" if url.query else url.path
        # A database's name and number are none; a path with a key in it is long.
        plain = {url.password or "", tail.lstrip("/") if len(tail) > 2 * SHORTEST else "", url.query}
        plain |= {part for part in url.path.split("/") if len(part) > 2 * SHORTEST}
    plain.discard("")
    forms = plain | {quote(one, safe="") for one in plain} | {unquote(one) for one in plain}
    # As a traceback quotes it, and then as a line of JSON or logfmt does.
    for quoted in (repr, json.dumps, partial(json.dumps, ensure_ascii=False)):
        forms |= {quoted(one)[1:-1] for one in forms}
    return forms
