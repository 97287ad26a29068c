"""Where Telegram posts updates, where that is asked for; without it they are polled."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.conf import settings


@dataclass(frozen=True)
class Hook:
    """`url` is what Telegram is told, `port` where this process listens behind whatever ends TLS."""

    url: str
    secret: str = field(repr=False)
    port: int

    @property
    def path(self) -> str:
        return urlsplit(self.url).path or "/"


def asked_for() -> Hook | None:
    """As the environment says; None where updates are polled."""
    environment = settings.ENVIRONMENT
    if not environment.telegram_webhook_url:
        return None
    secret = environment.telegram_webhook_secret.get_secret_value()
    return Hook(environment.telegram_webhook_url, secret, environment.telegram_webhook_port)
