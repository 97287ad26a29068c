"""What is logged is one line of JSON or logfmt per fact, and no secret is in it, whoever wrote it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from django.conf import settings

from execution_app.scrubbing import GONE
from vanta import logs

SECRETS = (
    "hmac-secret-of-nobody",
    "postgresql://vanta:pass-of-nobody@db:5432/vanta",
    "https://rpc.invalid/v2/key-of-nobody",
)


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    former, level = list(root.handlers), root.level
    stream = io.StringIO()
    yield stream
    logs.configure(settings.ENVIRONMENT.log_level, settings.ENVIRONMENT.log_format, io.StringIO())
    root.handlers = former
    root.setLevel(level)


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_scrubbed_in_events_facts_tracebacks_and_others_words(
    form: str, said: io.StringIO
) -> None:
    logs.configure("INFO", form, said, SECRETS)
    log = structlog.get_logger("tests.scrubbed")
    log.info("asked with hmac-secret-of-nobody", url=SECRETS[1], intent=7)
    try:
        int(f"{SECRETS[2]} is no number")
    except ValueError:
        log.exception("it failed")
    logging.getLogger("another.library").warning("header Authorization: Bearer %s", "token-of-nobody-123")
    lines = said.getvalue().splitlines()
    assert len(lines) == 3
    assert "of-nobody" not in said.getvalue()
    assert all(GONE in line for line in lines)
    assert "intent" in lines[0]
    assert "Traceback" in lines[1]


def test_json_is_json_with_level_time_and_process(said: io.StringIO) -> None:
    logs.configure("INFO", "json", said, SECRETS)
    structlog.get_logger("tests.json").info("signal", intent_key="sig:drill:1", quoted='a "word"')
    line = json.loads(said.getvalue())
    assert (line["event"], line["intent_key"], line["level"]) == ("signal", "sig:drill:1", "info")
    assert line["timestamp"].endswith("Z")
    assert line["pid"] > 0


def test_every_secret_of_the_environment_is_known_to_the_log() -> None:
    known = settings.ENVIRONMENT.secrets
    for name in ("webhook_hmac_secret", "admin_token", "secret_key", "database_url", "redis_url"):
        assert getattr(settings.ENVIRONMENT, name).get_secret_value() in known
    assert set(settings.ENVIRONMENT.rpc_urls) <= set(known)
