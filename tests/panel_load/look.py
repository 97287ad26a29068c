"""Ask the panel's pages as a logged-in operator, and time the server alone."""

import logging
import statistics
import time
from collections.abc import Iterator

from django.contrib.auth.models import User
from django.test import Client

from ops.panel.home import page
from ops.panel.home.box import bounded


class Look:
    HOME = "/admin/"

    def __init__(self) -> None:
        logging.disable(logging.WARNING)
        self._user = User.objects.create_superuser("load", password="not-used-here")
        self._client = Client()
        self._client.force_login(self._user)

    @classmethod
    def paths(cls, intents: int) -> list[str]:
        return [
            cls.HOME,
            "/admin/live/home/",
            "/admin/live/banner/",
            f"/admin/find/?q={intents // 2}",
            "/admin/find/?q=1007",
            f"/admin/trace/sig:load:{intents // 2 * 2}/",
            "/admin/charts/",
        ]

    def ask(self, path: str, times: int) -> list[float]:
        """Milliseconds of each request; the first, which compiles templates, is not among them."""
        took_ms = []
        for number in range(times + 1):
            began_s = time.perf_counter()
            answer = self._client.get(path)
            took = (time.perf_counter() - began_s) * 1000
            assert answer.status_code in {200, 302}, (path, answer.status_code)
            assert b"Not known:" not in answer.content, (path, "a box was not answered")
            if number:
                took_ms.append(took)
        return took_ms

    def boxes(self) -> Iterator[tuple[str, float]]:
        """Which box takes how long, at the median."""
        for box in page.BOXES:
            took_ms = []
            for _ in range(7):
                began_s = time.perf_counter()
                with bounded():
                    box.read()
                took_ms.append((time.perf_counter() - began_s) * 1000)
            yield box.key, statistics.median(took_ms)
