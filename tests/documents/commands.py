"""The commands that documents hold: lines of their shell blocks, and what stands between backticks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Every page but the changelog, which tells of commands that were, and the decisions.
DOCUMENTS = tuple(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs")
    for path in sorted(folder.glob("*.md"))
    if path.name != "CHANGELOG.md"
)
# A row of rooms, and the first line of what the audit log hashes.
NO_COMMANDS = {"vanta → ops → signals_app → execution_app", "vanta audit 1"}
# What begins a command; everything else between backticks is a name, a value or a fragment.
PROGRAMS = {
    *("manage.py", "vanta", "python", "docker", "make", "curl", "psql", "redis-cli", "config/with-env"),
    *("pg_dump", "pg_restore", "pg_basebackup", "pg_verifybackup", "promtool", "amtool", "git", "kubectl"),
    *("openssl", "ssh", "cp", "touch", "mkdir", "tar", "sha256sum", "chmod"),
}
_FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_INDENTED = re.compile(r"(?:^|\n)((?: {4}\S.*\n?)+)")
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
SHELL = {"sh", "bash", "shell"}


@dataclass(frozen=True)
class Command:
    """One command as it stands there, in one line."""

    document: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of its first part, before a pipe or `&&`; variables before the program are left out."""
        first = re.split(r"\s(?:\||&&|;|>)\s|;\s", f"{self.text} ")[0]
        try:
            words = shlex.split(first)
        except ValueError:
            words = first.split()
        while words and _ASSIGNMENT.fullmatch(words[0]):
            words = words[1:]
        return words


def found() -> list[Command]:
    """Of every document, each once, in order."""
    return [command for name in DOCUMENTS for command in of((ROOT / name).read_text(encoding="utf-8"), name)]


def of(text: str, name: str) -> list[Command]:
    told = [line for language, block in _FENCE.findall(text) if language in SHELL for line in lines(block)]
    rest = _FENCE.sub("", text)
    told += [line for block in _INDENTED.findall(rest) for line in lines(block)]
    told += [" ".join(span.split()) for span in _SPAN.findall(rest)]
    parts = (part for line in told for part in split(line))
    return [Command(name, part) for part in dict.fromkeys(parts) if is_command(part)]


def lines(block: str) -> Iterator[str]:
    """Without comments; continued lines are one."""
    for line in block.replace("\\\n", " ").splitlines():
        told = re.sub(r"(?:^|\s{2,})#.*$", "", line).strip()
        if told:
            yield " ".join(told.split())


def split(line: str) -> list[str]:
    """A list of commands is taken apart, unless a quote spans it."""
    pieces = re.split(r"\s&&\s|;\s+", line)
    return (
        pieces if all(piece.count("'") % 2 == 0 and piece.count('"') % 2 == 0 for piece in pieces) else [line]
    )


def is_command(text: str) -> bool:
    words = Command("", text).words
    return len(words) > 1 and words[0] in PROGRAMS and text not in NO_COMMANDS
