"""pg_dump and pg_restore of the server's version, and the server itself beside the database that everybody uses.

Nothing here goes through Django's connection: databases are made, renamed and dropped
from the maintenance database, without the time limits of a request.
"""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
import structlog
from django.conf import settings
from django.db import connection
from psycopg import sql

from execution_app.errors import Refused, Retryable
from ops.rehearsal.parts import postgres
from ops.rehearsal.parts.part import PartError

log = structlog.get_logger(__name__)

MAINTENANCE = "postgres"
CONNECT_TIMEOUT_S = 5
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
# Any number of ours: one command at a time makes and renames databases.
LOCK = 0x76616E7462
NAME_LIMIT = 63  # bytes of an identifier
WORDS_LIMIT = 600  # characters of a tool's complaint that are passed on

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Place:
    """A database of the server that DATABASE_URL names."""

    name: str
    host: str
    port: str
    user: str
    password: str
    options: Mapping[str, str]

    @classmethod
    def configured(cls) -> "Place":
        url = urlsplit(settings.ENVIRONMENT.database_url.get_secret_value())
        return cls(
            name=unquote(url.path.lstrip("/")),
            host=url.hostname or "",
            port=str(url.port or 5432),
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            options=dict(parse_qsl(url.query)),
        )

    def env(self, database: str) -> dict[str, str]:
        """What libpq's programs read: a password has no place in a command line, which everybody can list."""
        named = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
        options = {named[key]: value for key, value in self.options.items() if key in named}
        base = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return (
            base
            | options
            | {
                "PGHOST": self.host,
                "PGPORT": self.port,
                "PGUSER": self.user,
                "PGPASSWORD": self.password,
                "PGDATABASE": database,
                "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT_S),
            }
        )

    @contextmanager
    def connected(self, database: str = MAINTENANCE) -> Iterator[Connection]:
        """A session of its own in autocommit, without limits of time. Raises Retryable where there is none."""
        try:
            session = psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname=database,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="vanta backup",
                autocommit=True,
                **self.options,  # type: ignore[arg-type]
            )
        except psycopg.Error as error:
            raise Retryable(f"no connection to the database {database}: {error}".strip()) from None
        with session:
            session.execute("SET statement_timeout = 0")
            session.execute("SET idle_in_transaction_session_timeout = 0")
            session.execute("SET timezone = 'UTC'")
            yield session


@contextmanager
def alone(session: Connection) -> Iterator[None]:
    """One such command at a time on this server; ends with the session. Raises Refused while another one works."""
    try:
        # The server needs a moment to notice that a command was killed.
        session.execute("SET lock_timeout = '3s'")
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        session.execute("SET lock_timeout = 0")
    except psycopg.errors.LockNotAvailable:
        raise Refused("another restore or verification works on this server") from None
    try:
        yield
    finally:
        if not session.closed:
            session.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def exists(session: Connection, name: str) -> bool:
    return session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


def create(session: Connection, name: str, like: str) -> None:
    """An empty database with the collation of `like` where that is there. Raises Refused where the login may not."""
    row = session.execute(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database"
        " WHERE datname = %s AND datlocprovider = 'c'",
        [like],
    ).fetchone()
    words = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
    if row:
        words += sql.SQL(" ENCODING {} LC_COLLATE {} LC_CTYPE {} LOCALE_PROVIDER libc").format(
            *(sql.Literal(value) for value in row)
        )
    try:
        session.execute(words)
    except psycopg.Error as error:
        raise Refused(f"no database can be made beside {like}: {error}".strip()) from None


def drop(session: Connection, name: str) -> None:
    """Whoever is still connected is sent away."""
    session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def drop_leftovers(session: Connection, prefix: str) -> list[str]:
    """Drop what a killed command left half made; the caller is `alone`."""
    rows = session.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix]
    ).fetchall()
    for (name,) in rows:
        log.warning("a database that was never finished is dropped", database=name)
        drop(session, name)
    return [name for (name,) in rows]


def beside(name: str, what: str) -> str:
    """A name for a database beside `name`. Raises Refused where it would be cut off."""
    made = f"{name}_{what}_{datetime.now(UTC):%Y%m%dt%H%M%Sz}_{secrets.token_hex(2)}"
    if len(made.encode()) > NAME_LIMIT:
        raise Refused(f"the name of {name} is too long for another one beside it")
    return made


@contextmanager
def pointed_at(name: str) -> Iterator[None]:
    """Django's connection of this thread is to that database meanwhile; those of other threads stay as they are."""
    former = connection.settings_dict
    connection.close()
    connection.settings_dict = {**former, "NAME": name}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = former


def dump(place: Place, snapshot: str, to: Path) -> None:
    """Write the whole database as that exported snapshot sees it. Raises Refused."""
    # Owners and rights are the server's: `manage.py roles apply` makes them anew.
    words = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={to}"]
    _run(place, "pg_dump", words, place.name)


def read_through(place: Place, path: Path) -> None:
    """Read and unpack every byte, for nobody. Raises Refused."""
    _run(place, "pg_restore", ["--file=/dev/null", str(path)], place.name)


def restore_into(place: Place, path: Path, database: str) -> None:
    """Fill an empty database; all of it or an error. Raises Refused."""
    words = [
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--single-transaction",
        f"--dbname={database}",
    ]
    _run(place, "pg_restore", [*words, str(path)], database)


def _run(place: Place, program: str, words: list[str], database: str) -> None:
    path = find(place, program)
    done = subprocess.run(  # noqa: S603 -- a program that was found by its version, and words of ours
        [str(path), "--no-password", *words],
        env=place.env(database),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise Refused(f"{program} ended with {done.returncode}: {done.stderr.strip()[-WORDS_LIMIT:]}")


def find(place: Place, program: str) -> Path:
    """A program that is not older than the server, on the path or in the embedded wheel. Raises Refused."""
    with place.connected() as session:
        major = session.info.server_version // 10_000
    found = []
    for path in _candidates(program):
        version = _major(path)
        if version >= major:
            return path
        found.append(f"{path} is of {version}")
    told = "; ".join(found) or "there is none on the path"
    raise Refused(f"{program} of PostgreSQL {major} or newer is needed: {told}")


def _candidates(program: str) -> Iterator[Path]:
    if on_path := shutil.which(program):
        yield Path(on_path)
    try:
        embedded = postgres.site() / postgres.PROGRAMS / program
    except PartError:
        return
    if embedded.exists():
        yield embedded


def _major(path: Path) -> int:
    """0 where the program does not say."""
    try:
        told = subprocess.run(  # noqa: S603 -- asked for its version only
            [str(path), "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return 0
    match = VERSION.search(told.stdout)
    return int(match[1]) if match else 0
