"""What an operator types wrongly is refused in one line that names the field and its limit, before anything is touched."""

import io
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from execution_app.models import Trader, Wallet
from tests.execution import rows

NOBODY = "0x0000000000000000000000000000000000000000"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trader", "add", "7", "--address", NOBODY), "the zero address is nobody's"),
        (("shadow", "--days", "99999999999"), "--days must be from 1 to 36,500, not 99999999999"),
        (("shadow", "--fills", "0"), "--fills must be from 1 to 36,500, not 0"),
        (("wallet", "fund", "123", "--days", "400"), "argument --days: must be from 1 to 90, not '400'"),
        (("audit", "verify", "--head", "x"), "a head is SEQ:HASH with 64 hex digits, not 'x'"),
        (("mode", "--history", "-1"), "--history must be from 0 to 1000, not -1"),
        (("mode", "--history", "1001"), "--history must be from 0 to 1000, not 1001"),
        (("prices", "NOPE-USD"), "'NOPE-USD' is none of"),
        (("archive", "list", "--in", "/no/such"), "there is no folder /no/such"),
        (("create_admin", ""), "username: This field cannot be blank."),
        (("retention", "--keep-days", "5", "--dry-run"), "--keep-days 5: at least 35 days"),
        (("drill", "crash", "--seconds", "-1"), "argument --seconds: must be from 0.1 to 3600, not '-1'"),
        (("drill", "crash", "--seconds", "nan"), "argument --seconds: must be from 0.1 to 3600, not 'nan'"),
        (("drill", "crash", "--every-s", "0"), "argument --every-s: must be from 0.01 to 3600, not '0'"),
        (("drill", "crash", "--margin-s", "inf"), "argument --margin-s: must be from 0 to 3600, not 'inf'"),
        (("drill", "crash", "--var", "/no/such"), "there is no stack in /no/such"),
    ],
)
def test_it_is_refused_by_name(database: None, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(CommandError) as refusal:
        call_command(*words, stdout=io.StringIO())
    assert told in str(refusal.value)
    assert not Path("/no").exists()
    assert not Trader.objects.exists()


def test_an_export_that_cannot_be_written_says_so_and_one_that_breaks_off_is_not_left(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.trader(tg_user_id=123)
    words = ("privacy", "export", "123", "--reason", "asked for by letter", "--to")
    with pytest.raises(CommandError, match="No such file or directory") as refusal:
        call_command(*words, str(tmp_path / "nowhere" / "x.zip"))
    assert refusal.value.returncode == 2

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ops.rollout.privacy.zipfile.ZipFile", full)
    with pytest.raises(OSError, match="No space left"):
        call_command(*words, str(tmp_path / "x.zip"))
    assert list(tmp_path.iterdir()) == []


def test_a_wallet_that_is_there_is_not_taken_for_another_address(database: None) -> None:
    wallet = Wallet.objects.get(pk=rows.wallet())
    with pytest.raises(CommandError, match=f"has the wallet {wallet.address}, and no other"):
        call_command("wallet", "create", str(wallet.trader.tg_user_id), "--address", "0x12")
