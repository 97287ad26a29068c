"""Where output goes to a pipe whose reader has enough: `manage.py preflight | head` ends there, without a traceback."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

GONE = 141  # as the shell tells of whoever SIGPIPE ends


@contextmanager
def while_read() -> Iterator[None]:
    """Run a command, and end the process with GONE once nobody reads what it writes.

    A connection that breaks elsewhere raises the same error and is no pipe of ours: it goes on as it is.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_left():
            raise
        # The interpreter flushes once more at its end, and would complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            if _has_no_reader(stream.fileno()):
                os.dup2(nowhere, stream.fileno())
        sys.exit(GONE)


def _is_left() -> bool:
    return any(_has_no_reader(stream.fileno()) for stream in (sys.stdout, sys.stderr))


def _has_no_reader(descriptor: int) -> bool:
    """Whether it is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
