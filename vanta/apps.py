"""Every Django process rings at our broker: without the app, Celery's default one would take the bells."""

from importlib import import_module

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from vanta import times


class RoofConfig(AppConfig):
    name = "vanta"
    verbose_name = "Vanta"

    def ready(self) -> None:
        import_module("vanta.celery")
        connection_created.connect(times.read_compiled, dispatch_uid=__name__)
