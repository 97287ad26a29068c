"""Verify an exported audit log with nothing but Python's standard library and this file.

    python -m ops.audit.verifier FILE [--head SEQ:HASH]... [--json]

Exit codes: 0 intact, 1 broken (each fault names the entry and the column that
does not fit), 2 wrong usage. A head that was noted earlier, outside the
database, shows whether the end was cut off or the whole chain written anew.

The rule is spelled out in docs/audit.md. It is written a second time here, on
purpose: the database's function makes the hashes, and this does not trust it.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIRST_PREV_HASH = "0" * 64
PREFIX = "vanta audit 1\n"
DIGESTED = ("seq", "at", "actor", "origin", "address", "action", "subject", "reason", "before", "after")
COLUMNS = (*DIGESTED, "digests", "prev_hash", "hash")
DIGEST_CHARS = 16
MAX_FAULTS = 100
MAX_LINE_BYTES = 1_000_000
INTACT, BROKEN, USAGE = 0, 1, 2

# Column → its text; `before` and `after` are PostgreSQL's own text of the jsonb, or None.
Entry = dict[str, str | None]


@dataclass(frozen=True)
class Fault:
    """What does not fit: in which entry, which column, and why."""

    seq: int
    column: str
    why: str

    def __str__(self) -> str:
        return f"seq {self.seq}: {self.column} does not fit: {self.why}"


@dataclass
class Walk:
    """A walk along the chain from its first entry, one entry at a time."""

    heads: dict[int, str] = field(default_factory=dict)
    seq: int = 0
    hash: str = FIRST_PREV_HASH
    stored: str = ""
    entries: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        return not self.faults

    @property
    def is_full(self) -> bool:
        """Whether so much is wrong already that more would help nobody."""
        return len(self.faults) >= MAX_FAULTS

    def step(self, entry: Entry) -> None:
        """Hold one entry against the one before it and against its own hash."""
        self.entries += 1
        seq = _number(entry["seq"])
        in_order = self._check_order(seq)
        fits_before = entry["prev_hash"] == self.hash
        expected = digest(entry)
        if not fits_before:
            why = "it is not the hash of the entry before" if in_order else "the entry before is another one"
            self._fault(seq, "prev_hash", why)
        if expected != entry["hash"] and not (
            not fits_before and digest({**entry, "prev_hash": self.hash}) == entry["hash"]
        ):
            for column in misfits(entry):
                self._fault(seq, column, "it was not written like this")
        noted = self.heads.get(seq)
        if noted is not None and noted != entry["hash"]:
            self._fault(seq, "hash", f"the head noted earlier was {noted}")
        # With a hash that alone was touched, the entries after it still fit what it was.
        alone = expected != entry["hash"] and fits_before and misfits(entry) == ["hash"]
        self.seq, self.stored = seq, str(entry["hash"])
        self.hash = expected if alone else self.stored

    def end(self) -> None:
        """Nothing comes any more: every noted head must have been passed."""
        for seq, noted in sorted(self.heads.items()):
            if seq > self.seq:
                self._fault(seq, "seq", f"the log ends at {self.seq}; the head noted earlier was {noted}")

    def _check_order(self, seq: int) -> bool:
        wanted = self.seq + 1
        if seq > wanted:
            what = f"entry {wanted} is" if seq == wanted + 1 else f"entries {wanted} to {seq - 1} are"
            self._fault(wanted, "seq", f"{what} missing; {seq} follows")
        elif seq < wanted:
            self._fault(seq, "seq", f"it stands where {wanted} should be")
        return seq == wanted

    def _fault(self, seq: int, column: str, why: str) -> None:
        self.faults.append(Fault(seq, column, why))


def field_text(name: str, value: str | None) -> str:
    """`name=LENGTH:value` with the length in bytes of UTF-8, or `name=-` for NULL, and a newline."""
    return f"{name}=-\n" if value is None else f"{name}={len(value.encode())}:{value}\n"


def digest(entry: Entry) -> str:
    """The hash that an entry with these columns must carry."""
    fields = "".join(field_text(name, entry[name]) for name in (*DIGESTED, "digests", "prev_hash"))
    return hashlib.sha256((PREFIX + fields).encode()).hexdigest()


def digests(entry: Entry) -> str:
    """The column `digests` that an entry with these columns must carry."""
    parts = ((name, hashlib.sha256(field_text(name, entry[name]).encode()).hexdigest()) for name in DIGESTED)
    return " ".join(f"{name}:{found[:DIGEST_CHARS]}" for name, found in parts)


def misfits(entry: Entry) -> list[str]:
    """Which columns of an entry were touched, given that its hash does not fit its columns."""
    expected = digests(entry)
    if expected == entry["digests"]:
        return ["hash"]
    if digest({**entry, "digests": expected}) == entry["hash"]:
        return ["digests"]
    told = set(str(entry["digests"]).split(" "))
    return [part.split(":")[0] for part in expected.split(" ") if part not in told] or ["digests"]


def read_head(text: str) -> tuple[int, str]:
    """`SEQ:HASH` as the log line `audit head` and the end of an export tell it. Raises ValueError."""
    seq, _, found = text.strip().partition(":")
    if not seq.isdecimal() or len(found) != len(FIRST_PREV_HASH) or set(found) - set("0123456789abcdef"):
        raise ValueError(f"a head is SEQ:HASH with 64 hex digits, not {text!r}")
    return int(seq), found


def verify_lines(lines: Iterable[bytes], heads: dict[int, str]) -> Walk:
    """Verify an export: entries, one to a line, and the head as the last line."""
    walk = Walk(dict(heads))
    ended = False
    for number, line in enumerate(lines, 1):
        if ended:
            walk.faults.append(Fault(walk.seq, "head", f"line {number} comes after the head"))
            break
        try:
            content = _object(line)
            if "head" in content:
                ended = True
                _check_head(walk, content["head"])
                continue
            entry = _entry(content)
        except ValueError as problem:
            walk.faults.append(Fault(walk.seq + 1, "line", f"line {number}: {problem}"))
            break
        walk.step(entry)
        if walk.is_full:
            return walk
    if not ended and not walk.faults:
        walk.faults.append(Fault(walk.seq, "head", "the file ends without its head: it was cut off"))
    walk.end()
    return walk


def _check_head(walk: Walk, head: object) -> None:
    if not isinstance(head, dict) or set(head) != {"seq", "hash"}:
        raise ValueError("the head is not a seq and a hash")
    stated = (str(head["seq"]), str(head["hash"]))
    reached = (str(walk.seq), walk.stored)
    if stated != reached:
        why = f"it says {stated[0]}:{stated[1]}, the last entry is {reached[0]}:{reached[1]}"
        walk.faults.append(Fault(walk.seq, "head", why))


def _object(line: bytes) -> dict[str, object]:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("it is too long")
    content = json.loads(line, object_pairs_hook=_without_repeats)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  (of the file, not of a caller)
    return content


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in it")
    return dict(pairs)


def _entry(content: dict[str, object]) -> Entry:
    if set(content) != set(COLUMNS):
        raise ValueError("it does not have exactly the columns of an entry")
    entry: Entry = {}
    for name, value in content.items():
        empty = value is None and name in ("before", "after")
        text = isinstance(value, str) and name != "seq"
        number = isinstance(value, int) and not isinstance(value, bool) and name == "seq"
        if not (empty or text or number):
            raise ValueError(f"{name} is of another kind")
        entry[name] = None if value is None else str(value)
    return entry


def _number(text: str | None) -> int:
    return int(text or 0)


def lines_of(path: Path) -> Iterator[bytes]:
    """The file's lines, none read further than it may be long."""
    with path.open("rb") as source:
        while line := source.readline(MAX_LINE_BYTES + 1):
            yield line


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="python -m ops.audit.verifier",
        description="Verify an exported audit log offline. Exit code 0: intact, 1: broken, 2: wrong usage.",
    )
    words.add_argument("file", type=Path, metavar="FILE", help="what `manage.py audit export` wrote")
    add_head(words)
    words.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return words


def _head(text: str) -> tuple[int, str]:
    try:
        return read_head(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_head(words: argparse.ArgumentParser) -> None:
    words.add_argument(
        "--head",
        action="append",
        default=[],
        type=_head,
        metavar="SEQ:HASH",
        help="a head noted earlier, outside the database; may be given several times",
    )


def summary(walk: Walk) -> dict[str, object]:
    """The verdict for scripts."""
    faults = [{"seq": fault.seq, "column": fault.column, "why": fault.why} for fault in walk.faults]
    head = f"{walk.seq}:{walk.stored}"
    return {"ok": walk.is_intact, "entries": walk.entries, "head": head, "faults": faults}


def verdict(walk: Walk) -> list[str]:
    """The verdict for people."""
    if walk.is_intact:
        return [f"intact: {walk.entries} entries, head {walk.seq}:{walk.stored}"]
    more = ["and maybe more"] if walk.is_full else []
    return [f"BROKEN: {fault}" for fault in walk.faults] + more


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        walk = verify_lines(lines_of(given.file), dict(given.head))
    except OSError as problem:
        sys.stderr.write(f"{given.file} cannot be read: {problem.strerror}\n")
        return USAGE
    text = json.dumps(summary(walk)) if given.json else "\n".join(verdict(walk))
    sys.stdout.write(text + "\n")
    return INTACT if walk.is_intact else BROKEN


if __name__ == "__main__":
    sys.exit(main())
