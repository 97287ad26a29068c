"""Files of a migrated database are kept under a name that everything they were made of is in."""

import shutil
from pathlib import Path

import pytest

from tests import migrated
from tests.real_parts import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in (path for pattern in migrated.SOURCES for path in ROOT.glob(pattern)):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return tmp_path


def test_a_copy_of_the_code_has_the_same(root: Path) -> None:
    assert migrated.place(root).name == migrated.place().name


@pytest.mark.parametrize(
    "changed",
    [
        "execution_app/migrations/0001_initial.py",
        "signals_app/migrations/0001_initial.py",
        "ops/bot/migrations/0001_initial.py",
        "execution_app/migrations/9999_new.py",
        "vanta/settings.py",
    ],
)
def test_another_migration_has_others(root: Path, changed: str) -> None:
    with (root / changed).open("a") as file:
        file.write("# another\n")
    assert migrated.place(root).name != migrated.place().name


def test_a_server_is_begun_again_and_what_is_old_goes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrated, "place", lambda: root / "kept" / "postgres-new")
    for number in range(4):
        (root / "kept" / f"postgres-{number}").mkdir(parents=True)
    server = Server(root / "server")
    migrated.keep(server)  # type: ignore[arg-type]
    migrated.keep(server)  # type: ignore[arg-type]
    assert server.said == ["stop", "start"], "once"
    assert len(list((root / "kept").iterdir())) == migrated.MOST
    assert migrated.put(root / "other")
    assert (root / "other" / "password").read_text() == "a"


class Server:
    """As much of a part as is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        folder.mkdir()
        (folder / "password").write_text("a")

    def stop(self) -> None:
        self.said.append("stop")

    def start(self) -> None:
        self.said.append("start")
