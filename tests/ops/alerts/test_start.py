"""config/start-alertmanager: what is blank is said, what is wrong stops the start, and no secret is left lying about."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import machine_tools
from tests.ops.alerts import ends
from tests.ops.alerts.watchtower import ROUTES, START, rendered

FULL = {
    "DEPLOY_ENV": "staging",
    "TELEGRAM_BOT_TOKEN": ends.TOKEN,
    "ALERT_CHAT_ID": str(ends.PAGES),
    "ALERT_TICKET_CHAT_ID": "42",
    "ALERT_DEAD_MAN_URL": "https://watch.invalid/ping/a-b_c?x=1&y=~2",
}


def receivers(out: Path) -> dict[str, dict[str, object]]:
    """By name, the configuration of each one's only way; blank where it has none."""
    found = {}
    for receiver in yaml.safe_load(out.read_text())["receivers"]:
        ways = [way for name, way in receiver.items() if name != "name"]
        found[receiver["name"]] = ways[0][0] if ways else {}
    return found


def test_a_full_environment_says_nothing_and_fills_in_everything(tmp_path: Path) -> None:
    out = tmp_path / "out.yml"
    done = rendered(out, **FULL)
    assert (done.returncode, done.stderr) == (0, "")
    found = receivers(out)
    assert found["page"]["chat_id"] == ends.PAGES
    assert found["ticket"]["chat_id"] == 42
    assert {found[name]["bot_token"] for name in ("page", "ticket")} == {ends.TOKEN}
    assert found["dead-man"]["url"] == FULL["ALERT_DEAD_MAN_URL"]
    assert str(found["page"]["message"]).startswith("[staging] ")
    assert yaml.safe_load(out.read_text())["global"]["telegram_api_url"] == "https://api.telegram.org"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize("blank", [None, ""])
@pytest.mark.parametrize(
    ("name", "without", "said"),
    [
        ("TELEGRAM_BOT_TOKEN", {"page", "ticket"}, "NOTHING is delivered to Telegram"),
        ("ALERT_CHAT_ID", {"page"}, "pages are NOT delivered"),
        ("ALERT_TICKET_CHAT_ID", {"ticket"}, "tickets are NOT delivered"),
        ("ALERT_DEAD_MAN_URL", {"dead-man"}, "nobody is told when alerting itself dies"),
    ],
)
def test_what_is_blank_is_said_and_left_out(
    name: str, without: set[str], said: str, blank: str | None, tmp_path: Path
) -> None:
    env = {key: value for key, value in FULL.items() if key != name}
    done = rendered(tmp_path / "out.yml", **(env if blank is None else env | {name: blank}))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert name in line
    assert said in line
    assert {receiver for receiver, way in receivers(tmp_path / "out.yml").items() if not way} == without


@pytest.mark.parametrize("env", [FULL, {}], ids=["full", "empty"])
def test_alertmanager_takes_what_is_made(env: dict[str, str], tmp_path: Path) -> None:
    assert rendered(tmp_path / "out.yml", **env).returncode == 0
    amtool = machine_tools.need("prometheus-alertmanager", "amtool")
    done = subprocess.run(
        [amtool, "check-config", tmp_path / "out.yml"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 templates" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALERT_CHAT_ID", "@vanta"),
        ("ALERT_CHAT_ID", "-"),
        ("ALERT_CHAT_ID", "12 34"),
        ("ALERT_CHAT_ID", "0"),
        ("ALERT_TICKET_CHAT_ID", "1" * 19),
        ("TELEGRAM_BOT_TOKEN", "hunter"),
        ("TELEGRAM_BOT_TOKEN", "7:hunter\n  x: y"),
        ("TELEGRAM_BOT_TOKEN", "7:hunter:2"),
        ("TELEGRAM_BOT_TOKEN", "7:hunter #"),
        ("ALERT_DEAD_MAN_URL", "hunter.invalid"),
        ("ALERT_DEAD_MAN_URL", "https://hunter.invalid/'x"),
        ("ALERT_DEAD_MAN_URL", "https://"),
        ("TELEGRAM_API_BASE", "ftp://hunter.invalid"),
        ("DEPLOY_ENV", "hunter'x"),
    ],
)
def test_a_wrong_value_stops_the_start_and_is_not_repeated(name: str, value: str, tmp_path: Path) -> None:
    done = rendered(tmp_path / "out.yml", **{**FULL, name: value})
    assert done.returncode == 78
    assert name in done.stderr
    assert "hunter" not in done.stderr
    assert not (tmp_path / "out.yml").exists()


@pytest.mark.parametrize("name", ["TELEGRAM_BOT_TOKEN", "ALERT_DEAD_MAN_URL"])
def test_a_secret_may_stand_in_a_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(FULL[name] + "\n")
    env = {key: value for key, value in FULL.items() if key != name} | {f"{name}_FILE": str(file)}
    done = rendered(tmp_path / "out.yml", **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert FULL[name] in (tmp_path / "out.yml").read_text()
    assert rendered(tmp_path / "out.yml", **env, **{name: FULL[name]}).returncode == 78
    file.write_text("\n")
    assert "the file is empty" in rendered(tmp_path / "out.yml", **env).stderr
    file.unlink()
    assert "cannot be read" in rendered(tmp_path / "out.yml", **env).stderr


def test_what_is_started_has_no_secret_in_its_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [START, ROUTES, tmp_path / "out.yml", "--", "env"],
        env={"PATH": os.defpath, **FULL},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ALERT_CHAT_ID" in done.stdout
    assert ends.TOKEN not in done.stdout
    assert FULL["ALERT_DEAD_MAN_URL"] not in done.stdout
