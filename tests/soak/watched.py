"""A thread whose death somebody hears of."""

import threading
from collections.abc import Callable


class Watched(threading.Thread):
    """Begins at once; `died_of` says what ended it before its time, blank where nothing did."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        super().__init__(name=name, target=target, daemon=True)
        self.died_of = ""
        self.start()

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            self.died_of = f"{self.name} ended too early: {error!r}"
            raise
