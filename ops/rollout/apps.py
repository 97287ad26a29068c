from django.apps import AppConfig


class RolloutConfig(AppConfig):
    name = "ops.rollout"
    label = "rollout"
    verbose_name = "Rollout"
