"""The environment: every mistake named at once, nothing guessed, and no variable that nobody reads."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_parts import ROOT
from vanta.environment import SECRETS, Environment, Misconfigured, read

VENUE = {
    "VENUE_TRADING_ADDRESS": "0x44914408af82bC9983bbb330e3578E1105e11d4e",
    "VENUE_STORAGE_ADDRESS": "0x8a311D7048c35985aa31C131B9A13e03a5f7422d",
    "USDC_ADDRESS": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "VENUE_PRICE_AGGREGATOR_ADDRESS": "0x64e2625621970F8cfA17B294670d61CB883dA511",
}
DRY = {
    "DATABASE_URL": "postgresql://vanta:pw@db:5432/vanta",
    "REDIS_URL": "redis://redis:6379/0",
    "BASE_RPC_URL": "https://one.invalid/key,https://two.invalid",
    "CHAIN_ID": "8453",
    "WEBHOOK_HMAC_SECRET": "8c1f0a7be93d42569b7711c0de45aa60f2",
    "ADMIN_TOKEN": "f02d9915be64c87a3b0d2f6e1c5a7b9834",
    "SECRET_KEY": "51ad07c2e8f94b6390de1a2b3c4d5e6f70",
}
LIVE = {
    **DRY,
    **VENUE,
    "EXEC_MODE": "LIVE",
    "MAX_NOTIONAL_USDC": "10",
    "MAX_LEVERAGE": "2",
    "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD",
    "SIGNER_KEY_DIR": "/var/lib/vanta/keys",
    "SIGNER_KEY_PASSWORD": "q7Wm2Zk9Lp4Xt8Rb",
    "SIGNER_JOURNAL_DIR": "/var/lib/vanta/journal",
    "WEB3SIGNER_URL": "https://signer.invalid/hunter",
    "TELEGRAM_BOT_TOKEN": "7301548296:Qm4Zt8Kx2Vb9Lw6Rn3Yp7Hd5Gs1Fc0JaUe",
    "TELEGRAM_WEBHOOK_URL": "https://vanta.invalid/telegram",
    "TELEGRAM_WEBHOOK_SECRET": "0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f",
    "ALERT_DEAD_MAN_URL": "https://watch.invalid/hunter",
}
REHEARSAL = {"CHAIN_ID": "31337", "DEPLOY_ENV": "rehearsal"}
TEMPLATE = ROOT / "config" / "env.prod.canary.template"
# Read by the compose file, not by the processes.
OF_COMPOSE = {"ENV_FILE", "POSTGRES_PASSWORD", "WEBHOOK_BIND"}

# The contract's names; "what the features add" beside them is in the template.
PROMISED = {
    *("DATABASE_URL", "REDIS_URL", "BASE_RPC_URL", "CHAIN_ID", "EXEC_MODE", "FORCE_DRY", "CANARY_ENABLED"),
    *("MAX_NOTIONAL_USDC", "MAX_LEVERAGE", "ALLOWED_SYMBOLS", "ALLOW_LIVE_AFTER_STREAK", "ENABLE_RBF"),
    *(
        "DEPLOY_ENV",
        "DEPLOY_VERSION",
        "TELEGRAM_BOT_TOKEN",
        "TELEGRAM_API_BASE",
        "WEBHOOK_HMAC_SECRET",
        "ADMIN_TOKEN",
        "SECRET_KEY",
    ),
    *("ALLOWED_HOSTS", "TRUSTED_PROXIES", "SIGNER_BACKEND", "VENUE", "LOG_LEVEL", "LOG_FORMAT"),
    *("VERANTA_BATCHED_MARKET_URL", "VERANTA_CORE_API_URL"),
}


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(Misconfigured) as caught:
        read(environ)
    return str(caught.value)


def test_the_least_environment_is_dry() -> None:
    environment = read(DRY)
    assert (environment.exec_mode, environment.force_dry, environment.canary_enabled) == ("DRY", False, False)
    assert environment.is_production


@pytest.mark.parametrize("mode", ["", " ", "dry", "DRY"])
def test_a_blank_mode_is_dry(mode: str) -> None:
    assert read(LIVE | {"EXEC_MODE": mode}).exec_mode == "DRY"


def test_live_with_all_caps_starts() -> None:
    environment = read(LIVE | {"EXEC_MODE": " live ", "CANARY_ENABLED": "true"})
    assert environment.exec_mode == "LIVE"
    assert environment.symbols == {"BTC-USD", "ETH-USD"}


@pytest.mark.parametrize(
    "name",
    ["MAX_NOTIONAL_USDC", "MAX_LEVERAGE", "ALLOWED_SYMBOLS", "SIGNER_KEY_PASSWORD", *VENUE],
)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_live_refuses_what_is_missing_or_blank(name: str, value: str | None) -> None:
    environ = {key: text for key, text in LIVE.items() if key != name}
    message = refusal(environ if value is None else environ | {name: value})
    assert f"EXEC_MODE=LIVE needs {name}" in message
    assert "1 mistake(s)" in message


WITHOUT_COINCURVE = """
import runpy, sys
sys.modules["coincurve"] = None  # an import of it ends in ModuleNotFoundError
runpy.run_path("manage.py", run_name="__main__")
"""


@pytest.mark.parametrize(("mode", "code"), [("LIVE", 1), ("DRY", 0)])
def test_live_refuses_to_start_without_fast_signatures(mode: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COINCURVE, "check"],
        cwd=ROOT,
        env={"PATH": os.defpath, **LIVE, "EXEC_MODE": mode},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("EXEC_MODE=LIVE needs the Python package coincurve" in done.stderr) is (mode == "LIVE")


@pytest.mark.parametrize(
    ("backend", "needs"),
    [("kms", "SIGNER_KMS_KEYS"), ("keystore", "SIGNER_KEYSTORE_PATH"), ("web3signer", "WEB3SIGNER_URL")],
)
def test_live_wants_what_its_signer_needs_and_no_password_of_others(backend: str, needs: str) -> None:
    environ = LIVE | {"SIGNER_BACKEND": backend, "WEB3SIGNER_URL": ""}
    if backend != "keystore":
        environ |= {"SIGNER_KEY_PASSWORD": "", "SIGNER_KEY_DIR": ""}
    assert f"1 mistake(s):\n  - EXEC_MODE=LIVE needs {needs}" in refusal(environ)


def test_production_asks_a_web3signer_in_private() -> None:
    """Whoever can ask it can trade."""
    remote = LIVE | {"SIGNER_BACKEND": "web3signer", "SIGNER_KEY_PASSWORD": ""}
    assert read(remote).signer_backend == "web3signer"
    assert read(remote | {"WEB3SIGNER_URL": "http://127.0.0.1:9000"}).is_production
    assert "WEB3SIGNER_URL: whoever can ask" in refusal(remote | {"WEB3SIGNER_URL": "http://signer:9000"})


def test_a_list_of_no_symbol_is_no_list() -> None:
    assert "ALLOWED_SYMBOLS" in refusal(LIVE | {"ALLOWED_SYMBOLS": " , "})


@pytest.mark.parametrize("name", ["MAX_NOTIONAL_USDC", "MAX_LEVERAGE", "ALLOWED_SYMBOLS"])
def test_a_canary_needs_every_cap_in_dry_too(name: str) -> None:
    environ = LIVE | {"EXEC_MODE": "DRY", "CANARY_ENABLED": "yes", name: ""}
    assert f"CANARY_ENABLED=true needs {name}" in refusal(environ)


# A wrong value, and what the message says of it. Any other line would be a second mistake.
WRONG: list[tuple[str, str, str]] = [
    ("EXEC_MODE", "PROD", "'DRY' or 'LIVE'"),
    ("EXEC_MODE", "LIVE DRY", "'DRY' or 'LIVE'"),
    ("FORCE_DRY", "perhaps", "boolean"),
    ("CHAIN_ID", "0", "greater than 0"),
    ("CHAIN_ID", "base", "integer"),
    ("ALLOW_LIVE_AFTER_STREAK", "2", "greater than or equal to 3"),
    ("MAX_NOTIONAL_USDC", "0", "above zero"),
    ("MAX_NOTIONAL_USDC", "0.000000", "above zero"),
    ("MAX_NOTIONAL_USDC", "-1", "plain decimal"),
    ("MAX_NOTIONAL_USDC", "1e3", "plain decimal"),
    ("MAX_NOTIONAL_USDC", "1_000", "plain decimal"),
    ("MAX_NOTIONAL_USDC", "10,5", "plain decimal"),
    ("MAX_NOTIONAL_USDC", "NaN", "plain decimal"),
    ("MAX_NOTIONAL_USDC", "\u0661\u0660", "plain decimal"),
    ("MAX_NOTIONAL_USDC", "1.0000001", "at most 6 decimals"),
    ("MAX_LEVERAGE", "Infinity", "plain decimal"),
    ("MAX_LEVERAGE", "2x", "plain decimal"),
    ("ALLOWED_SYMBOLS", "BTC-USD,ETHUSD", "no such pair: ETHUSD"),
    ("DEPLOY_ENV", "Production!", "pattern"),
    ("DATABASE_URL", "mysql://u:p@db/vanta", "postgresql://"),
    ("DATABASE_URL", "sqlite:///vanta.db", "postgresql://"),
    ("DATABASE_URL", "postgresql://u:p@db:99999/vanta", "port"),
    ("DATABASE_URL", "postgresql://u:p@db:5432", "name of the database"),
    ("DATABASE_URL", "postgresql://db/vanta", "name a user"),
    ("DATABASE_URL", "postgresql://u:p@db/vanta?sslmod=require", "sslmod"),
    ("REDIS_URL", "http://redis:6379", "redis://"),
    ("REDIS_URL", "unix:///run/redis.sock", "redis://"),
    ("REDIS_URL", "redis://redis:port/0", "port"),
    ("REDIS_URL", "redis://redis/zero", "number of the Redis database"),
    ("BASE_RPC_URL", "ws://node:8546", "https://"),
    ("BASE_RPC_URL", "https://one.invalid,https://one.invalid", "twice"),
    ("BASE_RPC_URL", ",", "no endpoint"),
    ("BASE_RPC_URL", "node:8545", "https://"),
    ("VENUE_TRADING_ADDRESS", "0x44914408", "40 hex digits"),
    ("VENUE_TRADING_ADDRESS", "0x44914408AF82bC9983bbb330e3578E1105e11d4e", "checksum"),
    ("VENUE_TRADING_ADDRESS", "0x" + "0" * 40, "zero address"),
    ("USDC_ADDRESS", VENUE["VENUE_STORAGE_ADDRESS"], "same address as VENUE_STORAGE_ADDRESS"),
    ("MAX_FEE_PER_GAS_GWEI", "0", "above zero"),
    ("TRUSTED_PROXIES", "-1", "greater than or equal to 0"),
    ("SIGNER_BACKEND", "ledger", "'keyfile', 'keystore', 'kms' or 'web3signer'"),
    ("SIGNER_KMS_KEYS", "alias/a,alias/a", "twice"),
    ("SIGNER_KMS_KEYS", "alias/a b", "ids, ARNs or aliases"),
    ("SIGNER_KMS_KEYS", ",".join(f"alias/{n}" for n in range(65)), "more than 64"),
    ("WEB3SIGNER_URL", "signer:9000", "http"),
    ("WEB3SIGNER_URL", "https://signer.invalid/?key=1", "end with its path"),
    ("SIGNER_TIMEOUT_S", "4", "less than or equal to 3"),
    ("SIGNER_JOURNAL_DIR", "var/signer-journal", "absolute"),
    ("TELEGRAM_API_BASE", "api.telegram.org", "http"),
    ("TELEGRAM_API_BASE", "http://bots.invalid", "https, or on loopback"),
    ("TELEGRAM_MAY_RESUME", "perhaps", "boolean"),
    ("TELEGRAM_CODE_ABOVE_USDC", "0", "above zero"),
    ("VENUE", "paper", "onchain"),
    ("DRY_KEEPER_DELAY_MS", "60001", "less than or equal to 60000"),
    ("ALERT_CHAT_ID", "@vanta_alerts", "number of a chat"),
    ("ALERT_CHAT_ID", "0", "number of a chat"),
    ("ALERT_TICKET_CHAT_ID", "-1001234567890123456789", "number of a chat"),
    ("ALERT_DEAD_MAN_URL", "watch.invalid/1", "https://"),
    ("ALERTMANAGER_URL", "alertmanager:9093", "https://"),
    ("LOG_LEVEL", "LOUD", "INFO"),
    ("LOG_FORMAT", "xml", "json"),
    ("ALLOWED_HOSTS", "https://vanta.invalid", "without scheme"),
    ("ALLOWED_HOSTS", "*", "any name"),
    ("SIGNER_KEY_DIR", "var/keys", "absolute"),
    ("ADMIN_TOKEN", "f02d9915be64c87a", "at least 32"),
    ("ADMIN_TOKEN", "a" * 40, "too regular"),
    ("ADMIN_TOKEN", "changeme-0123456789-abcdefghijklm", "example"),
    ("ADMIN_TOKEN", DRY["SECRET_KEY"], "the same as SECRET_KEY"),
    ("WEBHOOK_HMAC_SECRET", DRY["ADMIN_TOKEN"], "the same as ADMIN_TOKEN"),
    ("SIGNER_KEY_PASSWORD", "short", "at least 16"),
    ("SIGNER_KEY_PASSWORD", DRY["SECRET_KEY"], "the same as SECRET_KEY"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=lambda text: str(text)[:40])
def test_a_wrong_value_is_named_and_is_the_only_mistake(name: str, value: str, words: str) -> None:
    message = refusal(LIVE | {name: value})
    assert name in message
    assert words in message
    assert "1 mistake(s)" in message, message


def test_every_mistake_is_named_at_once() -> None:
    wrong = LIVE | {
        "DATABASE_URL": "mysql://db",
        "CHAIN_ID": "",
        "MAX_NOTIONAL_USDC": "0",
        "MAX_LEVERAGE": "",
        "ADMIN_TOKEN": "short",
        "ALLOWED_HOSTS": "*",
        "EXEC_MOD": "DRY",
    }
    message = refusal(wrong)
    for words in (
        "EXEC_MOD: unknown; did you mean EXEC_MODE?",
        "DATABASE_URL: must begin with",
        "CHAIN_ID: missing",
        "MAX_NOTIONAL_USDC: must be above zero",
        "EXEC_MODE=LIVE needs MAX_LEVERAGE",
        "ADMIN_TOKEN: ",
        "ALLOWED_HOSTS: ",
    ):
        assert words in message


def test_no_value_of_a_secret_is_repeated() -> None:
    wrong = {name: "hunter2-hunter2" if name in SECRETS else value for name, value in LIVE.items()}
    assert "hunter2" not in refusal(wrong)
    shown = repr(read(LIVE))
    assert not [name for name in SECRETS if LIVE[name] in shown]


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("EXECMODE", "EXEC_MODE"),
        ("exec_mode", "EXEC_MODE"),
        ("REDIS_URI", "REDIS_URL"),
        ("MAX_NOTIONAL_USD", "MAX_NOTIONAL_USDC"),
        ("ALLOWED_SYMBOL", "ALLOWED_SYMBOLS"),
        ("ADMIN_TOKEN_FLIE", "ADMIN_TOKEN_FILE"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(slip: str, meant: str) -> None:
    assert f"{slip}: unknown; did you mean {meant}?" in refusal(DRY | {slip: "x"})


def test_slips_are_named_together_with_what_else_is_wrong() -> None:
    slips = ("MAX_NOTIONAL", "WEBHOOK_SECRET", "BASE_RPC", "EXECUTION_MODE", "EXEC_MOD", "RPC_URL")
    message = refusal(DRY | dict.fromkeys(slips, "x") | {"ALLOWED_HOSTS": "*"})
    assert "7 mistake(s)" in message
    assert all(f"{name}: unknown; did you mean " in message for name in slips)


def test_foreign_variables_are_nobodys_business() -> None:
    read(DRY | {"PATH": "/bin", "HOME": "/", "REDIS_PORT": "tcp://1.2.3.4:6379", "POSTGRES_PASSWORD": "x"})


def test_the_environment_of_this_machine_starts() -> None:
    read(os.environ)


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_may_stand_in_a_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(LIVE[name] + "\n")
    environ = {key: value for key, value in LIVE.items() if key != name} | {f"{name}_FILE": str(file)}
    found: Any = getattr(read(environ), name.lower())
    assert (found if isinstance(found, str) else found.get_secret_value()) == LIVE[name]
    assert "not both" in refusal(environ | {name: LIVE[name]})


def test_a_file_that_says_nothing_is_a_mistake(tmp_path: Path) -> None:
    without = {key: value for key, value in DRY.items() if key != "ADMIN_TOKEN"}
    assert "cannot be read" in refusal(without | {"ADMIN_TOKEN_FILE": str(tmp_path / "none")})
    (tmp_path / "empty").write_text("\n")
    assert "the file is empty" in refusal(without | {"ADMIN_TOKEN_FILE": str(tmp_path / "empty")})
    assert "only secrets" in refusal(DRY | {"EXEC_MODE_FILE": str(tmp_path / "empty")})


def test_rehearsal_is_lenient_only_when_said_twice() -> None:
    lenient = {"ADMIN_TOKEN": "0123456789abcdef", "SIGNER_KEY_DIR": "", "ALLOWED_HOSTS": "*"}
    lenient |= {"SIGNER_JOURNAL_DIR": ""}
    assert not read(LIVE | REHEARSAL | lenient).is_production
    for half in REHEARSAL:
        message = refusal(LIVE | REHEARSAL | lenient | {half: LIVE.get(half, "staging")})
        assert "4 mistake(s)" in message


def test_health_checks_from_inside_are_always_answered() -> None:
    assert {"vanta.invalid", "localhost", "127.0.0.1"} <= set(
        read(DRY | {"ALLOWED_HOSTS": "vanta.invalid"}).hosts
    )


def template() -> dict[str, str]:
    lines = [line for line in TEMPLATE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_template_lists_every_variable_and_no_other() -> None:
    known = {name.upper() for name in Environment.model_fields}
    assert set(template()) == known | OF_COMPOSE
    compose = (ROOT / "docker-compose.yml").read_text()
    assert all(name in compose for name in OF_COMPOSE)


def test_every_variable_of_the_template_is_explained() -> None:
    lines = TEMPLATE.read_text().splitlines()
    for place, line in enumerate(lines):
        if line and not line.startswith("#"):
            assert lines[place - 1].startswith("# "), line


def test_the_template_is_safe_and_says_what_to_fill_in() -> None:
    values = template()
    assert values["EXEC_MODE"] == "DRY"
    assert [name for name in SECRETS if values[name]] == ["REDIS_URL"]  # no password in it
    message = refusal(values)
    named = set(re.findall(r"- ([A-Z_]+): missing", message))
    assert named == {"DATABASE_URL", "BASE_RPC_URL", "WEBHOOK_HMAC_SECRET", "ADMIN_TOKEN", "SECRET_KEY"}
    filled = values | {name: DRY[name] for name in named}
    assert read(filled).exec_mode == "DRY"
    live = filled | {"EXEC_MODE": "LIVE"}
    assert "needs SIGNER_KEY_PASSWORD, VENUE_TRADING_ADDRESS" in refusal(live)
    password = {"SIGNER_KEY_PASSWORD": LIVE["SIGNER_KEY_PASSWORD"]}
    assert read(live | VENUE | password).symbols == {"BTC-USD", "ETH-USD"}


def test_every_promised_variable_is_known() -> None:
    known = {name.upper() for name in Environment.model_fields}
    assert known >= PROMISED


@pytest.mark.parametrize("field", sorted(Environment.model_fields))
def test_every_variable_is_read_by_something(field: str) -> None:
    """A use is an attribute of the environment, in code that is not the environment's own."""
    properties = {"base_rpc_url": "rpc_urls", "allowed_symbols": "symbols", "allowed_hosts": "hosts"}
    use = re.compile(rf"(ENVIRONMENT|environment)\.{properties.get(field, field)}\b")
    files = [
        path
        for room in ("vanta", "ops", "signals_app", "execution_app")
        for path in (ROOT / room).rglob("*.py")
    ]
    files.remove(ROOT / "vanta" / "environment.py")
    assert any(use.search(path.read_text()) for path in files)


WITHOUT_BOTO3 = """
import sys
sys.modules["boto3"] = None  # an import of it ends in ModuleNotFoundError
import os
from vanta.environment import read
read(os.environ)
"""


@pytest.mark.parametrize(("backend", "code"), [("kms", 1), ("keyfile", 0)])
def test_kms_needs_its_package_and_nothing_else_does(backend: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_BOTO3],
        cwd=ROOT,
        env={"PATH": os.defpath, **LIVE, "SIGNER_BACKEND": backend, "SIGNER_KMS_KEYS": "alias/delegate"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("SIGNER_BACKEND=kms needs the Python package boto3" in done.stderr) is (backend == "kms")
