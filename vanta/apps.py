"""Every Django process rings at our broker: without the app, Celery's default one would take the bells."""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import psycopg
from django.apps import AppConfig
from django.db.backends.signals import connection_created
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

# The library's own reader of times, compiled where it is. In a session whose zone is UTC, as all of ours, it answers what
# Django's answers, which takes twenty times as long; some twenty times are read for each intent.
_Reader: Any = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)


class _Times(Loader):
    timezone = UTC  # by which Django tells that it need not put another in its place

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self.load = _Reader(oid, context).load  # type: ignore[method-assign]

    def load(self, data: Buffer) -> datetime:
        raise NotImplementedError  # each has its reader's in its place


class RoofConfig(AppConfig):
    name = "vanta"
    verbose_name = "Vanta"

    def ready(self) -> None:
        import_module("vanta.celery")
        connection_created.connect(_read_times, dispatch_uid=__name__)


def _read_times(connection: Any, **_: Any) -> None:
    connection.connection.adapters.register_loader("timestamptz", _Times)
