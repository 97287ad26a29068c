"""Many workers read the gate all the time; a stop gets its turn among them."""

import threading
import time

from django.db import connection, transaction

from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind

WORKERS = 8
WORK_S = 0.03  # a transaction that takes nonces, signs, and is never without another beside it


def test_a_stop_is_not_starved_by_those_who_read_the_gate(database: None) -> None:
    ended = threading.Event()
    ready = threading.Barrier(WORKERS + 1)

    def work(after_s: float) -> None:
        ready.wait()
        ended.wait(after_s)
        while not ended.is_set():
            with transaction.atomic():
                control.hold_still()
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
    begun_s = time.monotonic()
    try:
        imposed = control.impose(RestrictionKind.STOP, Origin.COMMAND, by="test", reason="")
    finally:
        took_s = time.monotonic() - begun_s
        ended.set()
        for worker in workers:
            worker.join()
    assert imposed.changed
    assert took_s < control.WAIT_S
