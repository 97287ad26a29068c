"""Many workers read the gate all the time; a stop gets its turn among them."""

import threading

from django.db import connection, transaction

from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind

WORKERS = 8
WORK_S = 0.03  # a transaction that takes nonces, signs, and is never without another beside it
AHEAD = 10 * WORKERS  # a third of a second; the stop is under way to the line, too


def test_a_stop_is_not_starved_by_those_who_read_the_gate(database: None) -> None:
    ended = threading.Event()
    held: list[int] = []
    ready = threading.Barrier(WORKERS + 1)

    def work(after_s: float) -> None:
        ready.wait()
        ended.wait(after_s)
        while not ended.is_set():
            with transaction.atomic():
                control.hold_still()
                held.append(1)
                ended.wait(WORK_S)
        connection.close()

    workers = [
        threading.Thread(target=work, args=(number * WORK_S / WORKERS,), daemon=True)
        for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    ended.wait(3 * WORK_S)
    before = len(held)
    try:
        imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    finally:
        ahead = len(held) - before
        ended.set()
        for worker in workers:
            worker.join()
    assert imposed.changed
    assert ahead <= AHEAD, "others took their turn again and again while it stood in line"
