"""The monitoring services of the compose file: what they mount is there, what they are told is ours and runs."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containers import TEMPLATE, declared
from tests.real_parts import ROOT
from vanta.environment import SECRETS

SERVICES = declared()
WATCHERS = {name: one for name, one in SERVICES.items() if one.get("profiles") == ["monitoring"]}


def mounts(service: dict[str, Any]) -> dict[str, Path]:
    """Where each of our own files and folders is in a container, and where it is here."""
    plain = [volume.split(":") for volume in service["volumes"] if isinstance(volume, str)]
    return {target: ROOT / source for source, target, *_ in plain if source.startswith("./")}


def here(word: str, service: dict[str, Any]) -> str:
    for target, source in mounts(service).items():
        word = word.replace(target, str(source))
    return word


@pytest.mark.parametrize("name", WATCHERS)
def test_a_watcher_changes_nothing_but_its_own_volume(name: str) -> None:
    service = WATCHERS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["image"].endswith(":latest")
    for target, source in mounts(service).items():
        assert source.exists(), source
        assert f":{target}:ro" in "".join(map(str, service["volumes"]))
    written = [
        volume for volume in service["volumes"] if isinstance(volume, str) and not volume.endswith(":ro")
    ]
    assert [volume.split(":")[0] for volume in written] == [name]
    assert name in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]


def test_prometheus_asks_the_services_by_their_names_and_ports() -> None:
    (config,) = [word for word in WATCHERS["prometheus"]["command"] if word.startswith("--config.file=")]
    told = yaml.safe_load(Path(here(config.split("=")[1], WATCHERS["prometheus"])).read_text())
    assert "--web.enable-lifecycle" in WATCHERS["prometheus"]["command"], "a reload by POST"
    assert told["global"]["scrape_interval"] == "30s"
    asked = {
        job["job_name"]: target
        for job in told["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert asked == {
        "vanta": "webhook:8090",
        "prometheus": "localhost:9090",
        "alertmanager": "alertmanager:9093",
    }
    (server,) = told["alerting"]["alertmanagers"]
    assert server["static_configs"][0]["targets"] == [asked["alertmanager"]]
    allowed = next(
        line for line in TEMPLATE.read_text().splitlines() if line.startswith("ALLOWED_HOSTS=")
    ).split("=")[1]
    assert "webhook" in allowed.split(","), "the webhook answers who asks for it by that name"


def test_alertmanager_starts_from_the_mounted_file_and_knows_no_other_secret(tmp_path: Path) -> None:
    """Its entry point, run here with the same words; `cat` in the place of the server."""
    service = WATCHERS["alertmanager"]
    env_file = tmp_path / "env"
    env_file.write_text(
        "DEPLOY_ENV=staging\nTELEGRAM_BOT_TOKEN=7:abc\nALERT_CHAT_ID=-100\nALERT_TICKET_CHAT_ID=\n"
        "ADMIN_TOKEN=not-for-alertmanager\n"
    )
    out = tmp_path / "alertmanager.yml"
    words = [here(word, service) for word in service["entrypoint"]]
    words = [
        word.replace("/etc/vanta/env", str(env_file)).replace("/tmp/alertmanager.yml", str(out))
        for word in words
    ]
    done = subprocess.run(
        [*words, "sh", "-c", "env; cat " + str(out)],
        env={"PATH": os.defpath, "VANTA_EXPECTED_DEPLOY_ENV": "staging"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "chat_id: -100" in done.stdout
    assert "not-for-alertmanager" not in done.stdout
    assert "tickets are NOT delivered" in done.stderr
    assert f"--config.file={service['entrypoint'][-2]}" in service["command"]


def test_alertmanager_is_told_every_variable_that_its_start_reads_and_the_template_has_them() -> None:
    words = WATCHERS["alertmanager"]["entrypoint"]
    told = set(words[words.index("--only") + 1].split(","))
    script = (ROOT / "config" / "start-alertmanager").read_text()
    assert {name for name in told if f"${{{name}:-" not in script} == set()
    template = TEMPLATE.read_text()
    for name in told:
        bare = name.removesuffix("_FILE")
        assert f"\n{bare}=" in template, name
        assert name == bare or bare in SECRETS
