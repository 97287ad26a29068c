"""What is logged is one line of JSON or logfmt per fact, and no secret is in it, whoever wrote it."""

import io
import json
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from execution_app import scrubbing
from execution_app.scrubbing import GONE, Scrubber
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


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "secret", ['quo"te-of-nobody', "back\\slash-of-nobody", "pässwort-of-nobody", "o'clock\"-of-nobody"]
)
def test_a_secret_that_a_line_has_to_escape_is_scrubbed_as_well(
    form: str, secret: str, said: io.StringIO
) -> None:
    logs.configure("INFO", form, said, [secret])
    log = structlog.get_logger("tests.escaped")
    log.info(secret, told=secret)
    try:
        os.environ[secret]  # the library's words quote it
    except KeyError:
        log.exception("it failed")
    assert "of-nobody" not in said.getvalue()


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


# What each pattern looks for, as it may stand in somebody else's words.
TOLD = (
    *("Authorization: xyzzy-of-nobody", "x-signature=xyzzy-of-nobody", "webhook-signature: xyzzy-of-nobody"),
    *("bearer = xyzzy-of-nobody", "PASSWD=xyzzy-of-nobody", "my_password: xyzzy-of-nobody"),
    *("passphrase=xyzzy-of-nobody", "client_secret=xyzzy-of-nobody", "secret-key=xyzzy-of-nobody"),
    *("mnemonic: xyzzy-of-nobody", "admin_token=xyzzy-of-nobody", "csrftoken=xyzzy-of-nobody"),
    *("api-key=xyzzy-of-nobody", "APIKEY=xyzzy-of-nobody", "private_key=xyzzy-of-nobody"),
    *("sessionid=xyzzy-of-nobody", "Basic eHl6enktb2Ytbm9ib2R5", "get /bot12345:xyzzy-of-nobody-12345"),
    *(
        "pa\u017fswd: xyzzy-of-nobody",
        "to\u212aen_secret=xyzzy-of-nobody",
        "pr\u0130vate_key=xyzzy-of-nobody",
    ),
)


@pytest.mark.parametrize("text", TOLD)
def test_what_a_telling_name_holds_is_scrubbed_whatever_stands_around_it(text: str) -> None:
    """A line in which none of the names stands is not searched any further; each of them has it searched."""
    said = Scrubber()(f"intent=7 nonce=41 {text} why=0x{'ab' * 32}")
    assert GONE in said
    assert "of-nobody" not in said
    assert "eHl6" not in said


@given(st.text("abcdefikoprstvwxyz0189_-=: /\"'\u017f\u212a\u0130\u0131", max_size=60))
def test_what_is_not_searched_would_have_been_left_as_it_is(text: str) -> None:
    if not scrubbing._may_tell(text):
        found = (pattern.search(text) for pattern in (scrubbing._BOT, scrubbing._NAMED, scrubbing._BEARER))
        assert not any(found)
