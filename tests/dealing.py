"""How `pytest -n` deals files out: one worker takes those that mostly wait, the others those that mostly work.

Two whole stacks side by side fight for the cores while they start, and leave them idle while both wait for a timer.
Beside one of them a worker full of short tests uses what it leaves, and nothing of it comes late.
"""

from typing import Any

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

# Whole stacks, and processes that die and come back.
WAITING = ("tests/e2e/", "tests/chaos/", "tests/faults/", "tests/soak/", "tests/test_compose.py")


class Dealing(LoadFileScheduling):  # type: ignore[misc]
    """As `--dist loadfile`, in the order of the collection on either side; who has nothing left helps the other side."""

    def _assign_work_unit(self, node: Any) -> None:
        wants_to_wait = node is self.nodes[0]
        fitting = (scope for scope in self.workqueue if scope.startswith(WAITING) is wants_to_wait)
        scope = next(fitting, None)
        if scope is not None:
            self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)
