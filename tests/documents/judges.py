"""What is known of each command: run by which test, run against a stand-in, or validated only, and by what.

*run* means that a test of this repository runs the same verb with the real program on the real parts; the
test is looked for in its text, so a verb whose test goes is *validated only* again. Everything is validated: a verb,
an option, a service, a target or a route that is not there is wrong, whatever its tag.
"""

import re
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from django.core.management import get_commands, load_command_class
from django.urls import Resolver404, resolve

from tests.documents.commands import ROOT, Command


class Tag(StrEnum):
    RUN = "run"
    STAND_IN = "run against a stand-in"
    VALIDATED = "validated only"


@dataclass(frozen=True)
class Verdict:
    tag: Tag
    by: str
    is_wrong: bool = False


# What the contract and the procedure of going live name, and has to be in some document.
NAMED = (
    r'pg_dump -Fc "?\$DATABASE_URL"? > "?backups/vanta-preprod-\$\(date \+%F\)\.dump',
    r"showmigrations",
    r"vanta migrate",
    r"SELECT indexname FROM pg_indexes WHERE tablename='tx_intents' AND indexname LIKE '%idem%'",
    r"make check",
    r"make test",
    r"cp config/env\.prod\.canary\.template \.env\.staging",
    r"docker compose --env-file \.env\.staging up -d",
    r"curl -fsS http://localhost:8090/health",
    r"curl -fsS http://localhost:8090/metrics \| head -20",
    r"docker compose logs webhook worker tpsl \| grep -i error",
    r"promtool check rules ops/production-alerts\.rules\.yml",
    r"docker compose pause redis",
    r"docker compose unpause redis",
    r"docker compose exec redis redis-cli SET exec_mode '\{\"mode\":\"DRY\",\"emergency_stop\":true,\"updated_at\":1696176000\}'",
    r"docker compose --env-file \.env\.staging restart",
    r"curl -fsS http://localhost:8090/health \| jq",
    r"curl -X POST https://\S+/admin/emergency-stop -H \"Authorization: Bearer \$ADMIN_TOKEN\"",
    r"manage\.py drill",
    r"make drills",
    r"backup",
    r"verify-backup",
    r"manage\.py restore|restore --accept-untimed",
    r"incident capture",
    r"vanta preflight",
    r"pg_restore",
)
# A phrase in a test of that file by which it runs the program; the program is the real one, but for stand-ins.
EVIDENCE: dict[str, tuple[Tag, str, str]] = {
    "pg_dump": (Tag.RUN, "tests/e2e/test_checklist.py", "pg_dump -Fc"),
    "pg_restore": (Tag.RUN, "tests/e2e/test_checklist.py", "pg_restore --list"),
    "redis-cli": (Tag.RUN, "tests/e2e/test_drills.py", 'redis_cli("SET", "exec_mode"'),
    "pg_basebackup": (Tag.RUN, "tests/ops/rollout/test_base_backup.py", "pg_basebackup -h"),
    "pg_verifybackup": (Tag.RUN, "tests/ops/rollout/test_base_backup.py", "pg_verifybackup {base}"),
    "promtool": (Tag.RUN, "tests/ops/alerts/test_rules.py", "promtool"),
    "psql": (Tag.RUN, "tests/documents/test_commands.py", "cursor.execute(question)"),
}
ENGINE_TEST = "tests/ops/rollout/test_drill_compose.py"
CURL_TEST = "tests/e2e/test_checklist.py"
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+|…|N|\[.*\]|<.*>")


def judge(command: Command) -> Verdict:
    if problem := unreadable(command.text):
        return Verdict(Tag.VALIDATED, problem, is_wrong=True)
    words = command.words
    if words[0] == "config/with-env" and "--" in words:
        words = words[words.index("--") + 1 :]
    if words[:2] == ["python", "manage.py"]:
        words = words[1:]
    program, rest = words[0], words[1:]
    if program in {"manage.py", "vanta"}:
        return of_manage(rest)
    if program == "docker":
        return of_compose(rest)
    if program == "make":
        return of_make(rest)
    if program == "curl":
        return of_curl(command.text, rest)
    return of_program(program, rest)


def of_program(program: str, rest: list[str]) -> Verdict:
    """A server's own tools, by the tests that call them; modules by whether they are there."""
    if program == "python" and rest[:1] == ["-m"]:
        place = ROOT / rest[1].replace(".", "/")
        is_there = place.with_suffix(".py").exists() or (place / "__main__.py").exists()
        return Verdict(Tag.VALIDATED, rest[1] if is_there else f"there is no module {rest[1]}", not is_there)
    if program not in EVIDENCE or (program == "redis-cli" and rest[:2] != ["SET", "exec_mode"]):
        return Verdict(Tag.VALIDATED, "bash -n")
    if program == "promtool" and not (ROOT / rest[-1]).exists():
        return Verdict(Tag.VALIDATED, f"{rest[-1]} is not there", is_wrong=True)
    tag, path, phrase = EVIDENCE[program]
    return Verdict(tag, path) if phrase in text_of(path) else Verdict(Tag.VALIDATED, "bash -n")


def unreadable(text: str) -> str:
    """What the shell says to its syntax."""
    plain = re.sub(r"<[a-z ]+>", "x", text.replace("…", "x"))
    done = subprocess.run(
        ["bash", "-n", "-c", plain], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stderr.strip()[:200]


def of_manage(words: list[str]) -> Verdict:
    """Its name, verb and options by the command's own parser; run where a test calls the same verb."""
    if not words:
        return Verdict(Tag.VALIDATED, "no command is named", is_wrong=True)
    name, rest = words[0], words[1:]
    if PLACEHOLDER.fullmatch(name):
        return Verdict(Tag.VALIDATED, "stands for any command")
    if name not in get_commands():
        return Verdict(Tag.VALIDATED, f"there is no command {name}", is_wrong=True)
    verbs, options = grammar(name)
    verb = rest[0] if rest and not rest[0].startswith("-") else ""
    if verbs and verb and not PLACEHOLDER.fullmatch(verb):
        asked = verb.split("|")
        if unknown := [one for one in asked if one not in verbs]:
            return Verdict(Tag.VALIDATED, f"{name} has no verb {unknown[0]}", is_wrong=True)
        options = options.union(*(verbs[one] for one in asked))
    else:
        verb = ""
    given = {word.partition("=")[0].strip("[]") for word in rest if word.startswith(("--", "[--"))}
    if unknown := sorted(given - options):
        return Verdict(Tag.VALIDATED, f"{name} has no option {unknown[0]}", is_wrong=True)
    path = caller(name, verb.split("|")[0])
    return Verdict(Tag.RUN, path) if path else Verdict(Tag.VALIDATED, "its own parser")


@lru_cache(maxsize=128)
def grammar(name: str) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
    app: Any = get_commands()[name]
    command = load_command_class(app, name) if isinstance(app, str) else app
    parser = command.create_parser("manage.py", name)
    options = frozenset(parser._option_string_actions)
    verbs: dict[str, frozenset[str]] = {}
    for action in parser._actions:
        if isinstance(action.choices, dict):
            verbs = {one: frozenset(sub._option_string_actions) for one, sub in action.choices.items()}
        elif action.choices and not action.option_strings:
            verbs = {str(choice): frozenset() for choice in action.choices}
    return verbs, options


@lru_cache(maxsize=256)
def caller(name: str, verb: str) -> str:
    """The test that calls this command with this verb; blank where there is none."""
    quoted = rf"""["']{re.escape(name)}["']""" + (rf"""\s*,\s*["']{re.escape(verb)}["']""" if verb else "")
    called = rf"""(?:call_command|vanta|manage|run|drill|command)\(\s*(?:\w+,\s*)?{quoted}"""
    if verb:  # two words that follow one another are hardly anything else
        called = rf"{called}|\(\s*{quoted}"
    if name == "drill" and verb:
        called = (
            rf"""drill\(\w+, ["']{re.escape(verb)}["']|\(["']{re.escape(verb)}["'](?:, "--seconds".*)?[,)]"""
        )
    for path, text in tests():
        if re.search(called, text):
            return path
    return ""


@lru_cache(maxsize=1)
def tests() -> list[tuple[str, str]]:
    paths = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "documents" not in path.parts)
    return [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths]


def text_of(path: str) -> str:
    return Path(ROOT / path).read_text(encoding="utf-8")


def of_compose(words: list[str]) -> Verdict:
    """Services by the compose file; verbs that a test calls a stand-in for the engine with."""
    if words[:1] != ["compose"]:
        return Verdict(Tag.VALIDATED, "bash -n")
    rest = words[1:]
    while rest and rest[0].startswith("-"):
        rest = rest[2:]
    if not rest:
        return Verdict(Tag.VALIDATED, "no verb is named", is_wrong=True)
    verb, named = rest[0], [word for word in rest[1:] if not word.startswith("-") and not word.isdecimal()]
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    if verb in {"pause", "unpause", "exec", "kill", "stop", "start", "restart", "logs"}:
        named = named[:1] if verb == "exec" else named
        if unknown := [one for one in named if one not in services and not PLACEHOLDER.fullmatch(one)]:
            return Verdict(Tag.VALIDATED, f"there is no service {unknown[0]}", is_wrong=True)
    tried = f"compose {verb}" in text_of(ENGINE_TEST) or f'"{verb}"' in text_of(ENGINE_TEST)
    return (
        Verdict(Tag.STAND_IN, ENGINE_TEST)
        if tried
        else Verdict(Tag.VALIDATED, "services of docker-compose.yml")
    )


def of_make(words: list[str]) -> Verdict:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    target = words[0]
    if target not in targets:
        return Verdict(Tag.VALIDATED, f"there is no target {target}", is_wrong=True)
    if target in {"check", "test"}:
        return Verdict(Tag.RUN, ".ci/run")
    return Verdict(Tag.VALIDATED, "targets of the Makefile")


def of_curl(text: str, words: list[str]) -> Verdict:
    """Its path by the site's own routes; those that the walk through the checklist asks are run."""
    address = next((word for word in words if "://" in word or word.startswith("$")), "")
    path = re.sub(r"^(https?://[^/]+|\$\{?\w+\}?)", "", address.partition("?")[0]) or "/"
    port = re.search(r":(\d+)", address)
    if (port and port[1] in {"9090", "9093", "3000"}) or re.match(r"\$(?!WEBHOOK)", address):
        return Verdict(Tag.VALIDATED, "bash -n")  # another server than ours
    try:
        resolve(path)
    except Resolver404:
        return Verdict(Tag.VALIDATED, f"there is no route {path}", is_wrong=True)
    asked = path in {"/health", "/metrics"} and "-X" not in text and f'"$WEBHOOK{path}"' in text_of(CURL_TEST)
    return Verdict(Tag.RUN, CURL_TEST) if asked else Verdict(Tag.VALIDATED, "routes of the site")


def missing(commands: list[Command]) -> list[str]:
    """What the contract names and no document has."""
    told = [command.text for command in commands]
    return [pattern for pattern in NAMED if not any(re.search(pattern, text) for text in told)]
