"""An operator of the drill's own: made, enrolled and removed through the verbs that everybody uses."""

import io
import json
import os
import secrets
import subprocess
import sys
import time
from base64 import b32decode
from binascii import Error as Base32Error
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django_otp.oath import TOTP

from ops.rollout.drills.admin_site import FOUND, AdminSite
from ops.rollout.drills.report import Failed

MANAGE = Path(__file__).resolve().parents[3] / "manage.py"
TIMEOUT_S = 60
STEP_S = 30
SLOWED_S = 1.2  # how long a wrong code slows the next one down
REASON = "drill: clean recovery"


def environment() -> dict[str, str]:
    """Of a process that counts for nobody: a folder of metrics belongs to the stack's own."""
    return {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}


def manage(*words: str) -> dict[str, Any]:
    """`manage.py …` as in a shell; answers the JSON that it prints. Raises Failed with its words."""
    done = subprocess.run(
        [sys.executable, str(MANAGE), *words, "--json"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"manage.py {words[0]}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return _last(done.stdout)


def _call(*words: str) -> dict[str, Any]:
    """The same verb without a process of its own. Raises Failed."""
    told = io.StringIO()
    try:
        call_command(*words, "--json", stdout=told)
    except CommandError as error:
        raise Failed(f"manage.py {' '.join(words[:2])}: {error}") from error
    return _last(told.getvalue())


def _last(text: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return told


class Operator:
    """Somebody with a password and a second factor. A code is good once, so each is a later one than before."""

    def __init__(self) -> None:
        self.name = f"drill-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
        self.password = ""
        self._key = b""
        self._used = 0

    def create(self) -> None:
        """Raises Failed."""
        self.password = str(_call("create_admin", self.name, "--reason", "drill")["password"])

    def enrol(self) -> None:
        """A new device, whose codes were not used yet. Raises Failed."""
        if self._key:
            _call("second_factor", "remove", self.name)
        try:
            address = str(_call("second_factor", "enrol", self.name)["otpauth_url"])
            self._key = b32decode(parse_qs(urlsplit(address).query)["secret"][0])
        except (KeyError, Base32Error) as error:
            raise Failed(f"no secret came with the device: {type(error).__name__}") from error
        self._used = 0
        _call("second_factor", "confirm", self.name, self._code())

    def next_code(self) -> str:
        """One that counts after a wrong one was refused."""
        time.sleep(SLOWED_S)
        return self._code()

    def _code(self) -> str:
        """Of this half minute, or of the next, which counts, too; where both were used it waits."""
        step = max(int(time.time()) // STEP_S, self._used + 1)
        time.sleep(max(0.0, (step - 1) * STEP_S - time.time()))
        self._used = step
        totp = TOTP(self._key, STEP_S)
        totp.time = step * STEP_S
        return f"{totp.token():06d}"

    def remove(self, url: str) -> None:
        """Its device by the command, its account by its own hand on the admin site. Raises Failed."""
        user = User.objects.filter(username=self.name).first()
        if user is None:
            return
        if self._key:
            _call("second_factor", "remove", self.name)
        site = AdminSite(url)
        site.login(self.name, self.password)
        status, _ = site.submit(f"/admin/auth/user/{user.pk}/delete/", post="yes")
        if status != FOUND or User.objects.filter(pk=user.pk).exists():
            raise Failed(f"the drill's operator {self.name} is left: the admin site answered {status}")
