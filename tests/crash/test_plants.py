"""Bugs that have to be found, one of those that `make crashtest` plants, or three; and all patches still apply."""

from pathlib import Path

import pytest

from tests.crash import plants


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        "broadcast-before-persist",
        pytest.param("another-nonce-on-silence", marks=pytest.mark.whole),
        pytest.param("stop-asked-too-early", marks=pytest.mark.whole),
    ],
)
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    (patch,) = plants.patches(name)
    found = plants.hunt(patch, logs=tmp_path, seed=1)
    assert found["caught"], found
    assert found["problem"]


def test_every_patch_applies() -> None:
    assert len(plants.patches()) >= 8
    for patch in plants.patches():
        assert "\nFound: " in patch.read_text(encoding="utf-8"), (
            f"{patch.name} does not say as what it is found"
        )
        plants.check_applies(patch)


@pytest.mark.parametrize(
    ("head", "problem", "is_it"),
    [
        ("Found: I8|wrong end", "I8: first broadcast under a stop", True),
        ("Found: I8|wrong end", "wrong end: one ended", True),
        ("Found: I8", "I10: stuck", False),
        ("", "walk: ImportError: no module", True),
        ("", "stage: ImportError: no module", False),
        ("Found: ImportError", "stage: ImportError: no module", False),
    ],
)
def test_a_bug_is_found_as_what_it_says(tmp_path: Path, head: str, problem: str, is_it: bool) -> None:
    patch = tmp_path / "one.patch"
    patch.write_text(f"A bug.\n{head}\n\n--- a/manage.py\n+++ b/manage.py\nFound: all\n")
    assert plants.is_found(patch, problem) is is_it


def test_a_patch_that_does_not_apply_is_said(tmp_path: Path) -> None:
    patch = tmp_path / "old.patch"
    patch.write_text("--- a/manage.py\n+++ b/manage.py\n@@ -1 +1 @@\n-of long ago\n+of today\n")
    with pytest.raises(plants.DoesNotApplyError, match=r"old\.patch"), plants.planted(patch):
        pass
    with pytest.raises(plants.DoesNotApplyError, match=r"old\.patch"):
        plants.check_applies(patch)
