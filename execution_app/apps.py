from django.apps import AppConfig


class ExecutionConfig(AppConfig):
    name = "execution_app"
    verbose_name = "Execution"
