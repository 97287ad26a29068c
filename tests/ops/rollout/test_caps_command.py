"""`manage.py caps`: stricter by one action, looser with a reason and a code, nothing rewritten."""

import io
import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from execution_app.errors import Refused
from execution_app.gate import loosening
from execution_app.models import Cap
from tests.real_parts import ROOT


def run(*words: str) -> Any:
    out = io.StringIO()
    call_command("caps", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def active() -> dict[str, Decimal]:
    return {str(row): row.value for row in Cap.objects.filter(lifted_at=None)}


@pytest.mark.parametrize("words", [[], ["show"], ["set"], ["lift"]])
def test_it_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("caps", *words, "--help")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "exposure_usdc" in told
    assert "Exit status" in told


def test_exit_codes_of_the_command_line(database: None) -> None:
    def code(*words: str) -> int:
        done = subprocess.run(
            [sys.executable, "manage.py", "caps", *words],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        return done.returncode

    assert code("set", "exposure_usdc", "100", "--reason", "canary") == 0
    assert code("set", "exposure_usdc", "200", "--reason", "more") == 1
    assert code("set", "luck", "200", "--reason", "more") == 2
    assert active() == {"exposure_usdc global": Decimal(100)}


def test_one_cap_is_changed_and_nobody_elses(database: None) -> None:
    """A cap is one of its name, its scope and whose it is: another's must not take its place."""
    others = [
        ("exposure_usdc", "50", "--trader", "2"),
        ("exposure_usdc", "40", "--source", "1"),
        ("exposure_usdc", "30"),
        ("notional_usdc", "20", "--trader", "1"),
    ]
    for name, value, *whose in others:
        assert run("set", name, value, *whose, "--reason", "canary")["before"] is None
    before = active()
    assert len(before) == len(others)
    mine = ("exposure_usdc", "--trader", "1")
    assert run("set", "exposure_usdc", "45", *mine[1:], "--reason", "canary")["before"] is None
    assert active() == before | {"exposure_usdc trader 1": Decimal(45)}
    assert run("set", "exposure_usdc", "10", *mine[1:], "--reason", "less")["before"] == "45"
    assert active() == before | {"exposure_usdc trader 1": Decimal(10)}
    assert run("lift", *mine, "--reason", "ramp is done")["changed"]
    assert not run("lift", *mine, "--reason", "ramp is done")["changed"]
    assert active() == before
    assert run("set", "exposure_usdc", "45", *mine[1:], "--reason", "again")["before"] is None


def test_stricter_needs_a_reason_and_looser_a_longer_one(database: None) -> None:
    assert run("set", "exposure_usdc", "100", "--symbol", "BTC-USD", "--reason", "canary")["changed"]
    assert run("set", "exposure_usdc", "50.5", "--symbol", "BTC-USD", "--reason", "less")["before"] == "100"
    assert not run("set", "exposure_usdc", "50.5", "--symbol", "BTC-USD", "--reason", "same")["changed"]
    for looser in (["set", "exposure_usdc", "51"], ["lift", "exposure_usdc"]):
        with pytest.raises(CommandError, match="at least 8 characters"):
            run(*looser, "--symbol", "BTC-USD", "--reason", "  more  ")
    assert active() == {"exposure_usdc symbol BTC-USD": Decimal("50.5")}
    told = run(
        "set", "exposure_usdc", "60", "--symbol", "BTC-USD", "--reason", "ramp step two", "--code", "1"
    )
    assert (told["before"], told["cap"]["value"]) == ("50.5", "60")
    assert run("lift", "exposure_usdc", "--symbol", "BTC-USD", "--reason", "ramp is done")["changed"]
    assert not run("lift", "exposure_usdc", "--symbol", "BTC-USD", "--reason", "ramp is done")["changed"]
    history = [(row.value, row.reason, row.lifted_reason) for row in Cap.objects.order_by("id")]
    assert history == [
        (Decimal(100), "canary", "less"),
        (Decimal("50.5"), "less", "ramp step two"),
        (Decimal(60), "ramp step two", "ramp is done"),
    ]
    with pytest.raises(CommandError, match="needs a reason"):
        run("set", "exposure_usdc", "1", "--reason", " ")


def test_a_ban_is_set_at_once_and_lifted_with_a_reason(database: None) -> None:
    assert run("set", "banned", "--symbol", "SOL-USD", "--reason", "halted")["cap"]["value"] == "0"
    with pytest.raises(CommandError, match="at least 8"):
        run("lift", "banned", "--symbol", "SOL-USD", "--reason", "fine")
    assert run("lift", "banned", "--symbol", "SOL-USD", "--reason", "the venue resumed it")["changed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["exposure_usdc"], "needs a value"),
        (["exposure_usdc", "NaN"], "zero or more"),
        (["exposure_usdc", "Infinity"], "zero or more"),
        (["exposure_usdc", "1e31"], "zero or more"),
        (["exposure_usdc", "1.0000001"], "at most 6 decimals"),
        (["open_positions", "1.5"], "at most 0 decimals"),
        (["banned", "1"], "no value"),
        (["exposure_usdc", "1", "--symbol", "btc"], "no symbol can be named 'btc'"),
        (["exposure_usdc", "1", "--trader", "bob"], "no trader can be named 'bob'"),
        (["exposure_usdc", "1", "--source", ""], "no source can be named ''"),
    ],
)
def test_what_makes_no_sense_is_refused(database: None, words: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        run("set", *words, "--reason", "a good reason")
    assert active() == {}


def test_a_cap_above_the_ceiling_is_said_to_have_no_effect(database: None, settings: Settings) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"max_exposure_usdc": Decimal(40)})
    told = run("set", "exposure_usdc", "41", "--reason", "a good reason")
    assert told["note"] == "no effect: MAX_EXPOSURE_USDC is 40, and the environment is the ceiling"
    assert "note" not in run("set", "exposure_usdc", "39", "--reason", "a good reason")


def test_show_tells_ceilings_caps_and_what_is_used(database: None) -> None:
    run("set", "exposure_usdc", "100", "--trader", "123", "--reason", "canary", "--by", "ops")
    told = run("show", "--history")
    assert {"name": "MAX_NOTIONAL_USDC", "value": "1000"} in told["environment"]
    (row,) = told["caps"]
    assert (row["scope"], row["value"], row["used_live"], row["used_dry"], row["set_by"]) == (
        *("trader 123", "100", "0", "0"),
        "ops",
    )
    assert told["lifted"] == []
    out = io.StringIO()
    call_command("caps", "show", stdout=out)
    assert "MAX_NOTIONAL_USDC" in out.getvalue()
    assert "used_live=0" in out.getvalue()


@pytest.mark.parametrize("reason", ["", "   ", "seven c", "  1234567  "])
def test_the_seam_asks_for_a_reason(reason: str) -> None:
    with pytest.raises(Refused):
        loosening.permit(by="test", reason=reason, code="123456")


def test_the_seam_lets_a_reason_pass(database: None) -> None:
    loosening.permit(by="test", reason="12345678", code="")
