from django.apps import AppConfig


class PanelConfig(AppConfig):
    name = "ops.panel"
    label = "panel"
    verbose_name = "Panel"
