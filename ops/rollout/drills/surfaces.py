"""The ways to stop: each one small class that stops and resumes as an operator would.

A further surface is one more class in SURFACES.
"""

import json
from dataclasses import dataclass
from typing import Any, Protocol

import urllib3
from django.conf import settings

from ops.rollout.drills import admin_site
from ops.rollout.drills.admin_site import FOUND, OK, AdminSite
from ops.rollout.drills.faults import KEY
from ops.rollout.drills.operator import REASON, Operator, manage
from ops.rollout.drills.report import Failed, NotInjected
from ops.rollout.drills.stage import Stage
from ops.rollout.drills.telegram import Phone

TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Meaning:
    """What holds under this way of stopping. `holds_after_s` is when, after the call has returned."""

    emergency_stop: bool = True
    holds_after_s: float = 0.0
    restriction: str = ""  # as rows tell it
    end: str = "rejected/emergency_stop"  # of a signal that comes meanwhile


class Surface(Protocol):
    name: str
    meaning: Meaning

    def stop(self) -> list[str]:
        """Stop; answers the hashes that it says may still have left. Raises NotInjected."""

    def resume(self) -> list[str]:
        """Lift it where it was set; answers what was tried and rightly refused first. Raises Failed."""


class Redis:
    """An operator's plain word in the mode key, which carries no name and no reason."""

    name = "redis"
    meaning = Meaning(holds_after_s=1.0, restriction="emergency_stop of redis")

    def __init__(self, stage: Stage, _operator: Operator) -> None:
        self._parts = stage.parts

    def stop(self) -> list[str]:
        self._parts.redis("SET", KEY, json.dumps({"mode": "DRY", "emergency_stop": True}))
        return []

    def resume(self) -> list[str]:
        self._parts.redis("SET", KEY, json.dumps({"mode": "LIVE", "emergency_stop": False}))
        return []


class Http:
    name = "http"
    meaning = Meaning(restriction="emergency_stop of http")

    def __init__(self, stage: Stage, _operator: Operator) -> None:
        self._url = f"{stage.health.url}/admin/emergency-stop"
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=TIMEOUT_S))

    def stop(self) -> list[str]:
        status, answer = self._call("POST", settings.ENVIRONMENT.admin_token.get_secret_value())
        if status != OK or not answer.get("emergency_stop"):
            raise NotInjected(f"POST /admin/emergency-stop: {status} {answer}")
        return [str(tx_hash) for tx_hash in answer["in_flight"]]

    def resume(self) -> list[str]:
        refused, _ = self._call("DELETE", "not-the-token")
        if refused == OK:
            raise Failed("a wrong token lifted the stop")
        status, answer = self._call("DELETE", settings.ENVIRONMENT.admin_token.get_secret_value())
        if status != OK or not answer.get("changed"):
            raise Failed(f"DELETE /admin/emergency-stop: {status} {answer}")
        return [f"with a wrong token: {refused}"]

    def _call(self, method: str, token: str) -> tuple[int, dict[str, Any]]:
        try:
            answer = self._http.request(
                method,
                self._url,
                json={"reason": REASON},
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            return answer.status, dict(answer.json())
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise Failed(f"{method} /admin/emergency-stop: {type(error).__name__}") from error


class Admin:
    """The buttons of the admin site, behind a login."""

    name = "admin"
    meaning = Meaning(restriction="emergency_stop of admin")
    _page = "/admin/execution_app/control"

    def __init__(self, stage: Stage, operator: Operator) -> None:
        self._operator = operator
        self._site = AdminSite(stage.health.url)
        self._site.login(operator.name, operator.password)

    def stop(self) -> list[str]:
        status, page = self._site.submit(f"{self._page}/stop/", reason=REASON)
        if status != FOUND:
            raise NotInjected(f"the Stop page answered {status}: {admin_site.errors(page)}")
        return admin_site.hashes(self._site.messages())

    def resume(self) -> list[str]:
        """Without its token, then without a code, then rightly."""
        forged, _ = self._site.request("POST", f"{self._page}/resume/", reason=REASON)
        status, page = self._site.submit(f"{self._page}/resume/", reason=REASON, code="")
        if FOUND in {forged, status}:
            raise Failed(f"the Resume page took what it must refuse: {forged}, {status}")
        refused = [f"without CSRF token: {forged}", f"without a code: {admin_site.errors(page)}"]
        status, page = self._site.submit(
            f"{self._page}/resume/", reason=REASON, code=self._operator.next_code()
        )
        if status != FOUND:
            raise Failed(f"the Resume page answered {status}: {admin_site.errors(page)}")
        return refused


class Command:
    """`manage.py stop` and `resume` in a shell."""

    name = "command"
    meaning = Meaning(restriction="emergency_stop of command")

    def __init__(self, _stage: Stage, operator: Operator) -> None:
        self._operator = operator

    def stop(self) -> list[str]:
        try:
            told = manage("stop", "--by", self._operator.name, "--reason", REASON)
        except Failed as error:
            raise NotInjected(str(error)) from error
        return [str(tx_hash) for tx_hash in told["in_flight"]]

    def resume(self) -> list[str]:
        return _lift(self._operator, "resume")


class Telegram:
    """`/stop` in a chat with the bot, which is lifted in a shell, where going on belongs."""

    name = "telegram"
    meaning = Meaning(restriction="emergency_stop of telegram")

    def __init__(self, stage: Stage, operator: Operator) -> None:
        self._operator = operator
        self._phone = stage.undo.enter_context(Phone(operator.name))

    def stop(self) -> list[str]:
        return admin_site.HASH.findall(self._phone.writes(f"/stop {REASON}", "Stopped"))

    def resume(self) -> list[str]:
        refused = _lift(self._operator, "telegram", "lift", "emergency_stop")
        self._phone.close()
        return refused


class File:
    """The file that forces DRY: no stop, but nothing real is signed or sent while it is there."""

    name = "file"

    def __init__(self, stage: Stage, _operator: Operator) -> None:
        self.meaning = Meaning(emergency_stop=False, holds_after_s=1.0, end="simulated")
        self._path = stage.force_dry_path

    def stop(self) -> list[str]:
        try:
            self._path.touch(exist_ok=False)
        except OSError as error:
            raise NotInjected(f"{self._path}: {type(error).__name__}") from error
        return []

    def resume(self) -> list[str]:
        self._path.unlink(missing_ok=True)
        return []


def _lift(operator: Operator, *verb: str) -> list[str]:
    """In a shell, without a code, and then rightly; answers what was rightly refused. Raises Failed."""
    by = (*verb, "--by", operator.name, "--reason", REASON)
    try:
        manage(*by)
    except Failed as error:
        refused = [f"without a code: {error}"]
    else:
        raise Failed(f"`manage.py {' '.join(verb)}` lifted the stop without a code")
    manage(*by, "--code", operator.next_code())
    return refused


SURFACES: dict[str, type[Redis | Http | Admin | Command | Telegram | File]] = {
    surface.name: surface for surface in (Redis, Http, Admin, Command, Telegram, File)
}
