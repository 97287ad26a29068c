"""The first admin, traders and wallets: made once, shown once, never guessed."""

import io
import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from eth_account import Account

from execution_app.models import Trader, Wallet
from execution_app.node import signers
from tests.real_parts import ROOT

ADDRESS = "0x8ba1f109551bD432803012645Ac136ddd64DBA72"
OTHER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def run(*words: str) -> Any:
    out = io.StringIO()
    call_command(*words, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.mark.parametrize(
    "words",
    [
        *(["create_admin"], ["trader"], ["trader", "add"], ["preflight"]),
        *(["wallet"], ["wallet", "create"], ["wallet", "fund"], ["wallet", "check"]),
    ],
)
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(*words, "--help")
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out or len(words) == 1


def test_exit_codes_of_the_command_line(database: None) -> None:
    def code(*words: str) -> int:
        done = subprocess.run(
            [sys.executable, "manage.py", *words], cwd=ROOT, capture_output=True, timeout=60, check=False
        )
        assert b"Traceback" not in done.stderr
        return done.returncode

    assert code("trader", "list") == 0
    assert code("trader", "disable", "7") == 1
    assert code("trader", "add", "seven", "--address", ADDRESS) == 2


def test_an_admin_gets_a_password_that_is_shown_once(database: None) -> None:
    found = run("create_admin", "ann")
    user = get_user_model().objects.get(username="ann")
    assert user.is_superuser
    assert user.check_password(found["password"])
    with pytest.raises(CommandError, match="already exists"):
        run("create_admin", "ann")


def test_an_admin_may_bring_a_password(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough phrase 42\n"))
    assert run("create_admin", "bob", "--password-stdin") == {"name": "bob"}
    assert get_user_model().objects.get(username="bob").check_password("a long enough phrase 42")


@pytest.mark.parametrize("password", ["", "short", "password1234"])
def test_a_weak_password_makes_no_admin(
    password: str, database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    with pytest.raises(CommandError):
        run("create_admin", "bob", "--password-stdin")
    assert not get_user_model().objects.exists()


def test_a_trader_is_added_once(database: None) -> None:
    first = run("trader", "add", "42", "--address", ADDRESS.lower(), "--label", "ann")
    assert first == run("trader", "add", "42", "--address", ADDRESS) == run("trader", "list")
    assert first == [{"tg_user_id": 42, "label": "ann", "address": ADDRESS, "enabled": True, "wallet": None}]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "42", "--address", OTHER), "does not change"),
        (("add", "43", "--address", ADDRESS), "another trader"),
        (("add", "43", "--address", OTHER.replace("5aA", "5AA")), "checksum"),
        (("add", "43", "--address", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"), "40 hex digits"),
        (("add", "0", "--address", OTHER), "positive"),
        (("add", str(2**63), "--address", OTHER), "64-bit"),
        (("disable", "43"), "no trader 43"),
    ],
)
def test_what_a_trader_cannot_be(words: tuple[str, ...], why: str, database: None) -> None:
    run("trader", "add", "42", "--address", ADDRESS)
    with pytest.raises(CommandError, match=why):
        run("trader", *words)
    assert list(Trader.objects.values_list("tg_user_id", "address", "enabled")) == [(42, ADDRESS, True)]


def test_a_trader_is_disabled_and_enabled(database: None) -> None:
    run("trader", "add", "42", "--address", ADDRESS)
    assert run("trader", "disable", "42")[0]["enabled"] is False
    assert run("trader", "enable", "42")[0]["enabled"] is True


def test_a_wallet_is_made_once_and_its_key_is_never_shown(
    database: None, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(
        update={"signer_key_dir": tmp_path / "keys", "max_in_flight": 3}
    )
    run("trader", "add", "42", "--address", ADDRESS)
    found = run("wallet", "create", "42")
    wallet = Wallet.objects.get()
    assert found == {"tg_user_id": 42, "chain_id": 31337, "address": wallet.address, "created": True}
    assert (wallet.next_nonce, wallet.max_in_flight) == (0, 3)
    (keystore,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert stat.S_IMODE(keystore.parent.stat().st_mode) == 0o700
    key = signers._account(wallet.address).key.hex()
    assert key not in keystore.read_text() + caplog.text
    assert run("wallet", "create", "42") == found | {"created": False}
    assert run("trader", "list")[0]["wallet"] == wallet.address
    assert len(list(keystore.parent.iterdir())) == 1


def test_a_new_key_is_shown_once_to_who_asks(
    database: None, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"signer_key_dir": tmp_path / "keys"})
    run("trader", "add", "42", "--address", ADDRESS)
    out, err = io.StringIO(), io.StringIO()
    call_command("wallet", "create", "42", "--show-key", "--json", stdout=out, stderr=err)
    found = json.loads(out.getvalue())
    assert Account.from_key(found["private_key"]).address == found["address"] == Wallet.objects.get().address
    assert signers._account(found["address"]).key.hex() == found["private_key"][2:]
    assert "can trade for the trader" in err.getvalue()
    assert found["private_key"][2:] not in err.getvalue() + caplog.text
    with pytest.raises(CommandError, match="at its birth or never"):
        run("wallet", "create", "42", "--show-key")
    assert "private_key" not in run("wallet", "create", "42")


def test_a_new_key_is_shown_to_people_too(database: None, settings: Any, tmp_path: Path) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"signer_key_dir": tmp_path / "keys"})
    run("trader", "add", "42", "--address", ADDRESS)
    out = io.StringIO()
    call_command("wallet", "create", "42", "--show-key", stdout=out, stderr=io.StringIO())
    (key,) = re.findall(r"^private key, shown only now: (0x[0-9a-f]{64})$", out.getvalue(), re.MULTILINE)
    assert Account.from_key(key).address == Wallet.objects.get().address


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signer_key_password": ""}, "SIGNER_KEY_PASSWORD"),
        ({"deploy_env": "staging", "signer_key_dir": Path("var/keys")}, "absolute"),
        ({"signer_key_dir": Path("/proc/none")}, "cannot be stored"),
    ],
)
def test_where_no_key_can_be_kept_there_is_no_wallet(
    changes: dict[str, Any], why: str, database: None, settings: Any
) -> None:
    run("trader", "add", "42", "--address", ADDRESS)
    if "signer_key_password" in changes:
        changes = {"signer_key_password": type(settings.ENVIRONMENT.signer_key_password)("")}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=changes)
    with pytest.raises(CommandError, match=why):
        run("wallet", "create", "42")
    assert not Wallet.objects.exists()


def test_nobody_has_no_wallet(database: None) -> None:
    with pytest.raises(CommandError, match="trader add comes first"):
        run("wallet", "create", "42")
    run("trader", "add", "42", "--address", ADDRESS)
    with pytest.raises(CommandError, match="wallet create 42"):
        run("wallet", "check", "42")
