"""What the stack's processes and its operator's tools find in their environment."""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ops.rehearsal.deployment import Deployment
from ops.rehearsal.parts import port
from ops.rehearsal.parts.anvil import CHAIN_ID
from ops.rehearsal.stack_lock import tag

# What bounds a trade. Without one of them nothing is opened, and LIVE does not start.
CAPS = {"MAX_NOTIONAL_USDC": "1000", "MAX_LEVERAGE": "75", "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD,SOL-USD"}
# Written to stack.env, in this order: what any tool needs to talk to the stack.
PUBLISHED = (
    "DATABASE_URL",
    "REDIS_URL",
    "BASE_RPC_URL",
    "WEBHOOK_URL",
    "WEBHOOK_HMAC_SECRET",
    "ADMIN_TOKEN",
    "ADMIN_USER",
    "ADMIN_PASSWORD",
    "CHAIN_ID",
    "VENUE_TRADING_ADDRESS",
    "VENUE_STORAGE_ADDRESS",
    "USDC_ADDRESS",
    "VENUE_PRICE_AGGREGATOR_ADDRESS",
    "TRADER_ADDRESS",
    "WALLET_ADDRESS",
    *CAPS,  # so that `manage.py caps show` and `preflight` judge by what the stack has
    # What `manage.py` wants before it does anything; whoever reads ADMIN_PASSWORD here can do no more with it.
    "SECRET_KEY",
    "DEPLOY_ENV",
)
SECRETS = ("WEBHOOK_HMAC_SECRET", "ADMIN_TOKEN", "ADMIN_PASSWORD", "SECRET_KEY", "SIGNER_KEY_PASSWORD")
# Only for names that the caller does not have at all: a blank cap is one that was taken away, and stays so.
DEFAULTS = {"EXEC_MODE": "DRY", **CAPS, "DEPLOY_ENV": "rehearsal"}
# Nothing could start with a blank here.
FILLED = {"ADMIN_USER": "admin", "DJANGO_SETTINGS_MODULE": "vanta.settings"}
SECRET_BYTES = 32
URLS = ("DATABASE_URL", "REDIS_URL", "BASE_RPC_URL")


def given(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The caller's value, from NAME or the file that NAME_FILE names; blank when unset. Raises OSError."""
    value = environ.get(name, "").strip()
    path = environ.get(f"{name}_FILE", "").strip()
    return value or (Path(path).read_text().strip() if path else "")


def given_urls(folder: Path) -> dict[str, str]:
    """The caller's servers; blank where an embedded one fills the gap.

    A shell that has sourced stack.env hands us our own addresses back. Where nothing listens there any more,
    the embedded server is started on that same port again instead of being missed.
    """
    urls = {name: given(name) for name in URLS}
    published, ports = folder / "stack.env", folder / "ports.json"
    if not (published.exists() and ports.exists()):
        return urls
    ours = dict(word.split("=", 1) for word in shlex.split(published.read_text()))
    own_ports = set(json.loads(ports.read_text()).values())
    for name, url in urls.items():
        at = urlsplit(url).port if url and url == ours.get(name) and "," not in url else None
        if at is not None and at in own_ports and port.is_free(at):
            urls[name] = ""
    return urls


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and readable by nobody else at any moment."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "w") as sink:  # noqa: PTH123 -- an open descriptor
        sink.write(text)
        sink.flush()
        os.fsync(sink.fileno())
    draft.replace(path)


def settled_secrets(path: Path) -> dict[str, str]:
    """Secrets of this clone: made at the first start, the same ever after, the caller's own before both."""
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in SECRETS if name not in kept]
    if missing:
        kept |= {name: secrets.token_urlsafe(SECRET_BYTES) for name in missing}
        write_private(path, json.dumps(kept, indent=1) + "\n")
    return {name: given(name) or kept[name] for name in SECRETS}


def venue_variables(deployment: Deployment) -> dict[str, str]:
    return {
        "VENUE_TRADING_ADDRESS": deployment.trading,
        "VENUE_STORAGE_ADDRESS": deployment.storage,
        "USDC_ADDRESS": deployment.usdc,
        "VENUE_PRICE_AGGREGATOR_ADDRESS": deployment.price_aggregator,
    }


def for_children(
    folder: Path, verb: str, urls: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of the stack's own processes."""
    env = {**DEFAULTS, **os.environ}
    for name in (*SECRETS, *URLS):
        env.pop(f"{name}_FILE", None)  # Its content stands under NAME below.
    for name, value in FILLED.items():
        env[name] = env.get(name, "").strip() or value
    return {
        **env,
        **known,
        **urls,
        **tag(folder, verb),
        "CHAIN_ID": str(CHAIN_ID),
        "FORCE_DRY_PATH": env.get("FORCE_DRY_PATH", "").strip() or str(folder / "FORCE_DRY"),
        "SIGNER_KEY_DIR": env.get("SIGNER_KEY_DIR", "").strip() or str(folder / "keys"),
        "STATE_DIR": env.get("STATE_DIR", "").strip() or str(folder / "state"),
        "SIGNER_JOURNAL_DIR": env.get("SIGNER_JOURNAL_DIR", "").strip() or str(folder / "signer-journal"),
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "PYTHONUNBUFFERED": "1",
        # The stack is run by this very interpreter's environment, whatever else is on the path.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
    }


def detoured(folder: Path, component: str, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of one process, whose servers may lie behind other ports than everybody's.

    `detours.json` says so, as {component: {"REDIS_URL": port}}: what stands between lets one process alone
    lose its database, which a rehearsal of failures needs. Without that file nothing changes.
    """
    path = folder / "detours.json"
    ports: dict[str, int] = json.loads(path.read_text()).get(component, {}) if path.exists() else {}
    return {**env, **{name: _at_port(env[name], to) for name, to in ports.items()}}


def _at_port(url: str, to: int) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{to}").geturl()


def publish(path: Path, values: Mapping[str, str], names: tuple[str, ...] = PUBLISHED) -> None:
    """A file for `set -a; . FILE`, mode 0600, quoted for the shell."""
    write_private(path, "".join(f"{name}={shlex.quote(values[name])}\n" for name in names))
