from importlib import import_module

from django.apps import AppConfig


class PanelConfig(AppConfig):
    name = "ops.panel"
    label = "panel"
    verbose_name = "Panel"

    def ready(self) -> None:
        import_module("ops.panel.logins").listen()
        import_module("ops.panel.sessions").listen()
