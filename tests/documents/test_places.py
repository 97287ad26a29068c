"""Links of the documents lead somewhere, and the files and folders that they name are there."""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.documents.commands import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("", "docs", "docs/adr")
    for path in (ROOT / folder).glob("*.md")
)
# Made by a run, not kept here.
MADE = ("var/", "/")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:[\w.*-]+/)+(?:[\w*-]+\.(?:py|md|yml|vy|txt|toml|template|json|patch))?)`")


@lru_cache(maxsize=1)
def files() -> list[str]:
    found: list[str] = []
    for folder, inside, names in os.walk(ROOT):
        inside[:] = [
            name for name in inside if not name.startswith(".") and name not in {"var", "node_modules"}
        ]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in names]
    return found


@lru_cache(maxsize=64)
def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def dead_links(page: str, text: str) -> Iterator[str]:
    for link in LINK.findall(text):
        path, _, place = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if "://" not in link and (not target.exists() or (place and place not in anchors(target.resolve()))):
            yield link


def missing(text: str) -> Iterator[str]:
    """Paths are told from the root, or from a room whose page it is: `node/signing/` is execution_app's."""
    for name in NAMED.findall(text):
        pattern = re.compile(
            rf"(?:.*/)?{re.escape(name).replace(chr(92) + '*', '[^/]*')}{'.*' * name.endswith('/')}"
        )
        if not name.startswith(MADE) and not any(map(pattern.fullmatch, files())):
            yield name


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_what_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "CHANGELOG.md":
        assert list(dead_links(page, text)) == []  # it may name what has gone since
        return
    assert (list(dead_links(page, text)), list(missing(text))) == ([], [])


def test_what_is_not_there_is_noticed() -> None:
    text = "`tests/no_such.py` [a](nowhere.md) [b](docs/adr/README.md#nothing) [c](SECURITY.md#reporting) `vanta/` `ops/no/`"
    assert list(dead_links("README.md", text)) == ["nowhere.md", "docs/adr/README.md#nothing"]
    assert list(missing(text)) == ["tests/no_such.py", "ops/no/"]
