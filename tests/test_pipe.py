"""Whoever pipes a command into `head` sees its first lines and no traceback."""

import os
import subprocess
import sys

import pytest

from ops.pipe import GONE
from tests.real_parts import ROOT

# Reads one line and leaves, as `head -1` does, while there is more than a pipe holds.
VERBS = [("manage.py", "configuration"), ("manage.py", "help", "--commands")]


def read_first_line(*words: str, closed_before: bool = False) -> tuple[bytes, bytes, int]:
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as reader:
        if closed_before:
            reader.close()
        command = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE)
        os.close(theirs)
        line = b"" if closed_before else reader.readline()
    _, complaint = command.communicate(timeout=120)
    return line, complaint, command.returncode


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[1])
def test_who_reads_no_more_is_told_no_traceback(words: tuple[str, ...]) -> None:
    assert read_first_line(*words, closed_before=True)[1:] == (b"", GONE)


def test_a_long_output_that_is_left_in_the_middle() -> None:
    endless = "from ops.pipe import while_read\nwith while_read():\n while True: print('line')"
    assert read_first_line("-c", endless) == (b"line\n", b"", GONE)


def test_another_broken_connection_is_not_taken_for_it() -> None:
    broken = "from ops.pipe import while_read\nwith while_read(): raise BrokenPipeError('the database')"
    done = subprocess.run(
        [sys.executable, "-c", broken], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"BrokenPipeError: the database" in done.stderr
