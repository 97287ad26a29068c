"""stop, resume, reduce-only, mode and held in a shell: restricting needs one word, loosening a reason and a code."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from execution_app.gate import control
from execution_app.models import Restriction, TxIntent
from execution_app.states import Action, IntentState, Reason, RestrictionKind
from tests.rig import Rig
from tests.timers import pass_a_minute

REASON = "checked by two people"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    call_command(*words, "--json")
    return json.loads(capsys.readouterr().out)


def code(device: TOTPDevice, steps: int = 0) -> str:
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    totp.time = time.time() + steps * device.step
    return f"{totp.token():06d}"


@pytest.fixture
def ann(database: None) -> TOTPDevice:
    """An operator with an enrolled device."""
    user = User.objects.create_user("ann", password="not-used-here", is_staff=True)
    device: TOTPDevice = TOTPDevice.objects.create(user=user, name="authenticator", confirmed=True)
    return device


def kinds() -> set[str]:
    return set(control.active_kinds())


@pytest.mark.parametrize(
    ("tighten", "loosen", "kind"),
    [
        (("stop",), ("resume",), RestrictionKind.STOP),
        (("reduce-only", "on"), ("reduce-only", "off"), RestrictionKind.REDUCE_ONLY),
        (("mode", "DRY"), ("mode", "live"), RestrictionKind.DRY),
    ],
)
def test_a_restriction_needs_one_word_and_its_end_a_reason_and_a_code(
    ann: TOTPDevice,
    capsys: pytest.CaptureFixture[str],
    tighten: tuple[str, ...],
    loosen: tuple[str, ...],
    kind: RestrictionKind,
) -> None:
    said = run(capsys, *tighten)
    assert said["changed"] is True
    assert [row["kind"] for row in said["holding"]] == [kind]
    assert run(capsys, *tighten)["changed"] is False
    for words in (
        [],
        ["--reason", "short"],
        ["--reason", REASON, "--by", "ann"],
        ["--reason", REASON, "--by", "ann", "--code", "000000"],
    ):
        with pytest.raises(CommandError):
            call_command(*loosen, *words)
        assert kinds() == {kind}
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    good = code(ann)
    assert run(capsys, *loosen, "--reason", REASON, "--by", "ann", "--code", good)["changed"] is True
    assert kinds() == set()
    row = Restriction.objects.get(kind=kind)
    assert (row.origin, row.lifted_by) == ("command", "ann")


def test_a_code_is_good_once_and_wrong_ones_slow_down(ann: TOTPDevice) -> None:
    good = code(ann)
    call_command("stop")
    call_command("resume", "--reason", REASON, "--by", "ann", "--code", good)
    call_command("stop")
    with pytest.raises(CommandError, match="used already"):
        call_command("resume", "--reason", REASON, "--by", "ann", "--code", good)
    TOTPDevice.objects.update(throttling_failure_timestamp=Now() + timedelta(hours=1))
    with pytest.raises(CommandError, match="too soon"):
        call_command("resume", "--reason", REASON, "--by", "ann", "--code", code(ann, 1))
    assert kinds() == {RestrictionKind.STOP}


def test_outside_the_rehearsal_nobody_loosens_without_a_device(database: None, settings: Settings) -> None:
    User.objects.create_user("bob", password="not-used-here", is_staff=True)
    call_command("stop")
    settings.REHEARSAL = False
    for by in ("bob", "nobody-of-that-name", ""):
        with pytest.raises(CommandError, match="no second factor"):
            call_command("resume", "--reason", REASON, "--by", by, "--code", "123456")
    assert kinds() == {RestrictionKind.STOP}


def test_a_stop_of_another_origin_stays(ann: TOTPDevice, capsys: pytest.CaptureFixture[str]) -> None:
    from execution_app.states import Origin

    control.impose(RestrictionKind.STOP, Origin.HTTP, by="http", reason="")
    said = run(capsys, "resume", "--reason", REASON, "--by", "ann", "--code", code(ann))
    assert said["changed"] is False
    assert [row["origin"] for row in said["holding"]] == ["http"]


def test_a_device_is_enrolled_confirmed_and_removed(
    database: None, capsys: pytest.CaptureFixture[str]
) -> None:
    User.objects.create_user("bob", password="not-used-here", is_staff=True)
    said = run(capsys, "second_factor", "enrol", "bob")
    assert said["otpauth_url"].startswith("otpauth://totp/")
    device = TOTPDevice.objects.get()
    assert not device.confirmed
    with pytest.raises(CommandError, match="no code of the device"):
        call_command("second_factor", "confirm", "bob", "000000")
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    assert run(capsys, "second_factor", "confirm", "bob", code(device))["confirmed"] is True
    with pytest.raises(CommandError, match="already"):
        call_command("second_factor", "enrol", "bob")
    assert run(capsys, "second_factor", "remove", "bob")["removed"] is True
    with pytest.raises(CommandError, match="nobody who may log in"):
        call_command("second_factor", "enrol", "carol")


def test_a_held_intent_is_shown_and_rejected_once(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.intent()
    rig.run()
    call_command("mode", "DRY")
    from tests.redis_outages import await_mode

    await_mode("DRY")
    close = rig.intent(Action.CLOSE)
    rig.submit()
    (row,) = run(capsys, "held", "list")
    assert (row["intent_key"], row["reason"]) == (close.intent_key, "live_position_in_dry")
    run(capsys, "held", "reject", close.intent_key, "--reason", "closed by hand at the venue")
    close.refresh_from_db()
    assert (close.state, close.reason) == ("rejected", Reason.OPERATOR_REJECTED)
    for key in (close.intent_key, "sig:nobody:1"):
        with pytest.raises(CommandError, match="is not held"):
            call_command("held", "reject", key, "--reason", "again")
    assert run(capsys, "held", "list") == []


def test_flatten_closes_each_live_position_once_and_then_stops(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two positions, and an open that is mined but not filled yet when it begins."""
    import threading

    from django.db import connection

    from tests import invariants

    rig.intent()
    rig.intent(symbol="ETH-USD")
    rig.run()
    rig.intent(symbol="SOL-USD")
    rig.submit()
    rig.mine()
    ended = threading.Event()

    def drive() -> None:
        try:
            while not ended.is_set():
                pass_a_minute()
                rig.submit()
                rig.mine()
                rig.track()
                rig.keep()
                rig.track()
                ended.wait(0.05)
        finally:
            connection.close()

    driving = threading.Thread(target=drive)
    driving.start()
    try:
        said = run(capsys, "stop", "--flatten", "--wait-s", "60", "--reason", "the worst day")
    finally:
        ended.set()
        driving.join()
    assert {row["kind"] for row in said["holding"]} == {"emergency_stop", "reduce_only"}
    closes = TxIntent.objects.filter(action=Action.CLOSE)
    assert closes.count() == 3
    assert {close.state for close in closes} == {IntentState.FILLED}
    assert all(close.intent_key.startswith("admin:flatten:") for close in closes)
    rig.mine(4)
    rig.track()
    invariants.check()


def test_flatten_under_a_stop_says_that_nothing_leaves(database: None) -> None:
    call_command("stop")
    with pytest.raises(CommandError, match="nothing leaves under it"):
        call_command("stop", "--flatten")
