from django.apps import AppConfig


class WatchConfig(AppConfig):
    name = "ops.watch"
    label = "watch"
    verbose_name = "Watch"
