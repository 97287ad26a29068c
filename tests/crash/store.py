"""Tables and chain are put away once and taken back before each trial, which is cheaper than making them anew."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from django.apps import apps
from django.conf import settings
from django.db import connection

from execution_app.engine import restored
from tests.conftest import KEPT
from tests.rig import rpc_call

KEYS = ("exec_mode", "exec_mode_epoch", restored.REDIS_KEY)
SHADOW = "crash_shadow"
APPS = ("execution_app", "signals_app", "bot")
VACUUM_EVERY = 150  # deleted rows pile up, and every trial would look through them


def tables() -> list[str]:
    """Tables that a trial may change; the rest is Django's."""
    models = [model for app in APPS for model in apps.get_app_config(app).get_models()]
    named = {model._meta.db_table for model in models}
    return sorted(named - (KEPT - {"control", "stack_mode"}))


@dataclass
class Store:
    """States of the world under names. To take one back ends those that were kept after it."""

    redis: Any
    _snapshots: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, dict[str, str | None]] = field(default_factory=dict)
    _times: int = 0

    def keep(self, name: str) -> None:
        """Put away what is there now. Whatever was kept before under another name is still there."""
        shadow = f"{SHADOW}_{name}"
        lines = [f"DROP SCHEMA IF EXISTS {shadow} CASCADE", f"CREATE SCHEMA {shadow}"]
        lines += [f'CREATE TABLE {shadow}."{one}" AS TABLE public."{one}"' for one in tables()]
        self._run(lines)
        self._run([_restoring(shadow, self._full(shadow))])
        self._snapshots[name] = rpc_call("evm_snapshot")
        self._keys[name] = {key: self.redis.get(key) for key in KEYS}
        for folder, put_away in self._folders(name):
            shutil.rmtree(put_away, ignore_errors=True)
            shutil.copytree(folder, put_away)

    def take_back(self, name: str) -> None:
        """Make everything as it was when this name was kept."""
        rpc_call("evm_setAutomine", False)
        rpc_call("anvil_dropAllTransactions")
        assert rpc_call("evm_revert", self._snapshots[name]), "the node forgot its snapshot"
        self._snapshots[name] = rpc_call("evm_snapshot")
        self.restore(name)
        self.redis.flushdb()
        for key, value in self._keys[name].items():
            if value is not None:
                self.redis.set(key, value)
        for folder, put_away in self._folders(name):
            shutil.rmtree(folder)
            shutil.copytree(put_away, folder)

    @staticmethod
    def _folders(name: str) -> list[tuple[Path, Path]]:
        """What remembers beside the database, with where it is put away: the signer's journals, the database's names."""
        environment = settings.ENVIRONMENT
        found = []
        for folder in (environment.state_dir, environment.signer_journal_dir):
            folder.mkdir(parents=True, exist_ok=True)
            found.append((folder, folder.with_name(f"{folder.name}.{name}")))
        return found

    def restore(self, name: str) -> None:
        """The tables alone. No trigger fires meanwhile, as only the server's owner can have it."""
        self._run([f"SELECT {SHADOW}_{name}.take_back()"])
        self._times += 1
        if self._times % VACUUM_EVERY == 0:
            with psycopg.connect(
                settings.ENVIRONMENT.database_url.get_secret_value(), autocommit=True
            ) as own:
                own.execute("VACUUM (ANALYZE)")

    @staticmethod
    def _full(shadow: str) -> set[str]:
        """Tables of which something was put away; as it is looked at, no shadow changes any more."""
        looks = [f"SELECT '{one}' WHERE EXISTS (SELECT FROM {shadow}.\"{one}\")" for one in tables()]
        with connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(looks))
            return {name for (name,) in cursor.fetchall()}

    @staticmethod
    def _run(lines: list[str]) -> None:
        """Several statements at once; without parameters the protocol permits that."""
        connection.ensure_connection()
        with connection.connection.cursor() as cursor:
            cursor.execute("BEGIN; " + "; ".join(lines) + "; COMMIT")


def _restoring(shadow: str, full: set[str]) -> str:
    """A function of the server, which plans its statements once. Tables that were and are empty cost one look."""
    lines = [
        f'IF EXISTS (SELECT FROM public."{one}") THEN DELETE FROM public."{one}"; END IF;' for one in tables()
    ]
    lines += [f'INSERT INTO public."{one}" SELECT * FROM {shadow}."{one}";' for one in sorted(full)]
    return (
        f"CREATE FUNCTION {shadow}.take_back() RETURNS void LANGUAGE plpgsql "
        f"SET session_replication_role = replica AS $$ BEGIN {' '.join(lines)} END $$"
    )
