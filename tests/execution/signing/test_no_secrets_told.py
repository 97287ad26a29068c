"""A recognisable key in every backend, every error provoked, and not a trace of it in anything that was said."""

import io
import json
import logging
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr

from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signers import Slot
from execution_app.node.signing import backends, keyfiles
from tests.real_parts import ROOT
from tests.remote_signers import KmsFake, Web3SignerFake
from vanta.environment import read

FEE = Fee(2_000_000_000, 1_000_000)
PLANTED = "feedface" * 8
PASSWORD = "planted-password-0123456789"
AWS_SECRET = "planted-aws-secret"
URL_PASSWORD = "planted-url-password"
SECRETS = (
    PLANTED,
    PASSWORD,
    AWS_SECRET,
    URL_PASSWORD,
    str(int(PLANTED, 16)),
    repr(bytes.fromhex(PLANTED))[2:-1],
)


@pytest.fixture
def key() -> LocalAccount:
    planted: LocalAccount = Account.from_key(PLANTED)
    return planted


@pytest.fixture
def heard() -> Iterator[io.StringIO]:
    """Everything that is logged at any level, printed, or raised."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with redirect_stdout(told), redirect_stderr(told):
        yield told
    root.removeHandler(handler)
    root.setLevel(level)


def provoke(told: io.StringIO, verb: Callable[..., Any], *args: Any) -> None:
    """The whole of an error: its text, its causes, and the values of its frames' variables that repr would show."""
    try:
        answer = verb(*args)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is looked at)
        told.write("".join(traceback.format_exception(error)))
        told.write(repr(error) + str(error.args))
    else:
        told.write(repr(answer))


def everything(told: io.StringIO, order: Slot) -> None:
    provoke(told, signers.sign, order, FEE)
    provoke(told, signers.require_key, order.sender)
    provoke(told, signers.has_key, order.sender)
    provoke(told, signers.sign_remotely, [(order, FEE)], 0.0)
    provoke(told, backends.backend)
    provoke(told, lambda: django_settings.ENVIRONMENT)


def assert_silent(told: io.StringIO, minimum: int = 200) -> None:
    said = told.getvalue()
    assert len(said) > minimum, "nothing was provoked"
    assert [secret for secret in SECRETS if secret.lower() in said.lower()] == []


def test_key_files(
    key: LocalAccount, order: Slot, heard: io.StringIO, with_environment: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    with_environment(signer_key_dir=folder, signer_key_password=SecretStr(PASSWORD))
    keyfiles.account.cache_clear()
    whole = json.dumps(Account.encrypt(key.key, PASSWORD, kdf="pbkdf2", iterations=1_000))
    for content in (
        whole,
        whole[:-5],
        whole.replace('"mac"', '"mca"'),
        PLANTED,
        json.dumps({"key": PLANTED}),
        f"[{PLANTED}",
    ):
        (folder / f"{key.address}.json").write_text(content)
        keyfiles.account.cache_clear()
        everything(heard, order)
    provoke(heard, lambda: repr(keyfiles.account(key.address)))
    with_environment(signer_key_password=SecretStr(PASSWORD + "x"))
    (folder / f"{key.address}.json").write_text(whole)
    keyfiles.account.cache_clear()
    everything(heard, order)
    keyfiles.account.cache_clear()
    assert_silent(heard)


def test_keystores(
    key: LocalAccount, order: Slot, heard: io.StringIO, with_environment: Any, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    whole = json.dumps(Account.encrypt(key.key, PASSWORD, kdf="pbkdf2", iterations=1_000))
    for content in (
        whole,
        whole[:-5],
        whole.replace('"mac"', '"mca"'),
        PLANTED,
        json.dumps({"address": key.address, "key": PLANTED}),
    ):
        path.write_text(content)
        for password in (PASSWORD, PASSWORD + "x", ""):
            place = {"signer_backend": "keystore", "signer_keystore_path": path}
            with_environment(**place, signer_key_password=SecretStr(password))
            everything(heard, order)
    assert_silent(heard)


def test_a_secret_that_is_told_is_heard(heard: io.StringIO) -> None:
    """A net that catches nothing proves nothing."""
    for secret in SECRETS:
        heard.write(secret)
        with pytest.raises(AssertionError, match=r"== \[\]"):
            assert_silent(heard, 0)
        heard.seek(0)
        heard.truncate()


FAULTS: tuple[dict[str, object], ...] = (
    {}, {"away": True}, {"status": 500}, {"status": 400}, {"status": 404}, {"wrong_key": True}, {"other_bytes": True},
    {"answer": b"0x"}, {"lose_next": 1}, {"delay_s": 1.2},
)  # fmt: skip


@pytest.mark.parametrize("backend", ["web3signer", "kms"])
def test_remote_signers(
    backend: str, order: Slot, heard: io.StringIO, request: pytest.FixtureRequest, with_environment: Any
) -> None:
    """Their answers, their addresses and AWS's secret are told to nobody either, at DEBUG too."""
    remote: Web3SignerFake | KmsFake = request.getfixturevalue(backend)
    logging.getLogger("botocore").setLevel(
        logging.INFO
    )  # AWS's own DEBUG prints requests; Vanta's settings never ask it
    url = remote.url.replace("http://", f"http://operator:{URL_PASSWORD}@")
    if backend == "web3signer":
        with_environment(web3signer_url=SecretStr(url))
    for faults in FAULTS:
        backends.backend_of.cache_clear()
        for name, value in faults.items():
            setattr(remote.faults, name, value)
        everything(heard, order)
        for name in faults:
            setattr(remote.faults, name, None if name == "answer" else type(getattr(remote.faults, name))())
    remote.__exit__()
    backends.backend_of.cache_clear()
    everything(heard, order)
    assert_silent(heard)


def test_metrics_and_pages_tell_no_key(
    order: Slot, heard: io.StringIO, client: Client, database: None
) -> None:
    heard.writelines(client.get(path).content.decode() for path in ("/metrics", "/health", "/health/live"))
    assert "vanta_signatures_refused_total" in heard.getvalue()
    assert_silent(heard)


def test_a_process_shows_no_secret_that_stands_in_a_file(tmp_path: Path) -> None:
    """`ps` shows the command and, to its owner, the environment: with NAME_FILE neither holds the secret."""
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "url").write_text(f"https://operator:{URL_PASSWORD}@signer.invalid")
    code = "import sys, os; from vanta.environment import read; print(repr(read(os.environ)), flush=True); sys.stdin.read()"
    environ = {
        "PATH": "/usr/bin:/bin", "DATABASE_URL": "postgresql://v:p@db:5432/v", "REDIS_URL": "redis://redis:6379/0",
        "BASE_RPC_URL": "https://one.invalid", "CHAIN_ID": "31337", "DEPLOY_ENV": "test", "SECRET_KEY": "x" * 40,
        "WEBHOOK_HMAC_SECRET": "y" * 40, "ADMIN_TOKEN": "z" * 40,
        "SIGNER_KEY_PASSWORD_FILE": str(tmp_path / "password"), "WEB3SIGNER_URL_FILE": str(tmp_path / "url"),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    shown = process.stdout.readline()
    assert "signer_backend='keyfile'" in shown
    listed = subprocess.run(
        ["ps", "eww", "-p", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout
    process.communicate("")
    assert re.search(rf"^\s*{process.pid}\b.*SIGNER_KEY_PASSWORD_FILE=", listed, re.MULTILINE)
    assert [secret for secret in SECRETS if secret in shown + listed] == []
    assert read(environ).signer_key_password.get_secret_value() == PASSWORD
