from django.apps import AppConfig


class BotConfig(AppConfig):
    name = "ops.bot"
    label = "bot"
    verbose_name = "Bot"
