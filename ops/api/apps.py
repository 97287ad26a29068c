from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "ops.api"
    label = "api"
    verbose_name = "API"
