"""Whether anybody would hear of an alert, by what the environment says."""

from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3
from django.conf import settings

from ops.rollout.findings import Finding

TIMEOUT_S = 3.0
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def examine() -> Iterator[Finding]:
    """What is delivered, then whether Alertmanager answers where drills will look for it.

    A rehearsal wakes nobody, so there a blank is no shortcoming.
    """
    environment = settings.ENVIRONMENT
    ways = {
        "pages": ("ALERT_CHAT_ID", environment.alert_chat_id is not None),
        "tickets": ("ALERT_TICKET_CHAT_ID", environment.alert_ticket_chat_id is not None),
    }
    missing = {}
    if not environment.telegram_bot_token.get_secret_value():
        missing["pages and tickets"] = "TELEGRAM_BOT_TOKEN"
    else:
        missing = {what: name for what, (name, there) in ways.items() if not there}
    if not environment.alert_dead_man_url.get_secret_value():
        missing["the dead man's switch"] = "ALERT_DEAD_MAN_URL"
    if not missing:
        yield Finding("alerts", "ok", "pages, tickets and the dead man's switch have somewhere to go")
    elif environment.is_production:
        step = f"set {', '.join(missing.values())} (docs/monitoring.md)"
        yield Finding("alerts", "warn", f"not delivered: {', '.join(missing)}", step)
    else:
        yield Finding("alerts", "ok", f"a rehearsal; not delivered: {', '.join(missing)}")
    if environment.telegram_bot_token.get_secret_value():
        yield from _chats()
    if environment.is_production:
        yield _runbook(environment.runbook_url)
    if environment.alertmanager_url:
        yield _alertmanager(environment.alertmanager_url)


def _runbook(url: str) -> Finding:
    if urlsplit(url).hostname in LOOPBACK:
        step = "set RUNBOOK_URL to the panel's page as people reach it, or to the repository's (docs/monitoring.md)"
        return Finding("runbook", "warn", "messages lead to a page that opens on this host alone", step)
    return Finding("runbook", "ok", "messages lead to a page elsewhere than on this host")


def _chats() -> Iterator[Finding]:
    """Whether the bot may write there, asked of Telegram; the URL carries the token, so it is never shown."""
    environment = settings.ENVIRONMENT
    token = environment.telegram_bot_token.get_secret_value()
    base = f"{environment.telegram_api_base.rstrip('/')}/bot{token}/getChat"
    chats = {
        "ALERT_CHAT_ID": environment.alert_chat_id,
        "ALERT_TICKET_CHAT_ID": environment.alert_ticket_chat_id,
    }
    for name, chat_id in chats.items():
        if chat_id is None:
            continue
        step = f"check TELEGRAM_BOT_TOKEN and {name}, and that the bot is in that chat"
        try:
            answer = urllib3.request(
                "GET", base, fields={"chat_id": str(chat_id)}, timeout=TIMEOUT_S, retries=False
            )
        except (OSError, urllib3.exceptions.HTTPError) as error:
            yield Finding(f"chat {name}", "warn", type(error).__name__, step)
            continue
        if answer.status != HTTPStatus.OK:
            yield Finding(f"chat {name}", "warn", f"Telegram answers {answer.status}", step)
        else:
            yield Finding(f"chat {name}", "ok", "the bot knows it")


def _alertmanager(url: str) -> Finding:
    try:
        status = urllib3.request("GET", f"{url.rstrip('/')}/-/ready", timeout=TIMEOUT_S, retries=False).status
    except (OSError, urllib3.exceptions.HTTPError) as error:
        return Finding(
            "alertmanager", "warn", type(error).__name__, "check ALERTMANAGER_URL and that it answers"
        )
    if status != HTTPStatus.OK:
        return Finding("alertmanager", "warn", f"answers {status}", "look at its log")
    return Finding("alertmanager", "ok", "ready")
