"""What the variables must say together: rules of LIVE, of the canary, and of every real deployment.

Asked with the raw values, so that these mistakes are named beside those of single variables.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import PurePath
from urllib.parse import urlsplit

REHEARSAL_CHAIN_ID = 31337
REHEARSALS = frozenset({"rehearsal", "test"})
CAPS = ("MAX_NOTIONAL_USDC", "MAX_LEVERAGE", "ALLOWED_SYMBOLS")
VENUE_ADDRESSES = (
    "VENUE_TRADING_ADDRESS",
    "VENUE_STORAGE_ADDRESS",
    "USDC_ADDRESS",
    "VENUE_PRICE_AGGREGATOR_ADDRESS",
)
# What each way of signing wants for LIVE.
SIGNER_NEEDS: Mapping[str, tuple[str, ...]] = {
    "keyfile": ("SIGNER_KEY_PASSWORD",),
    "keystore": ("SIGNER_KEY_PASSWORD", "SIGNER_KEYSTORE_PATH"),
    "kms": ("SIGNER_KMS_KEYS",),
    "web3signer": ("WEB3SIGNER_URL",),
}
GATEWAY_URLS = ("VERANTA_BATCHED_MARKET_URL", "VERANTA_CORE_API_URL")
FEED_URLS = ("VERANTA_FEED_URL", "VERANTA_DATA_API_URL")
# Whoever holds one of these can trade, stop, or log in.
KEYS = ("SECRET_KEY", "ADMIN_TOKEN", "WEBHOOK_HMAC_SECRET")
MINIMUM_KEY_LENGTH = 32
MINIMUM_KEY_CHARACTERS = 10  # different ones; a random key of 32 hex digits has about 14
MINIMUM_PASSWORD_LENGTH = 16
# Parts of values that stand in documentation, tests and templates of this and other projects.
EXAMPLES = (
    "change-me", "change_me", "changeme", "replace-me", "replace_me", "replaceme", "example", "insecure",
    "not-for-use", "your-", "your_", "password", "secret-key", "placeholder", "xxxx",
)  # fmt: skip
HOOK_SECRET = re.compile(r"[A-Za-z0-9_-]{32,256}")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


def mistakes(values: Mapping[str, str]) -> list[str]:
    """Every broken rule; `values` has the contract's names and no blanks."""
    found = [
        *_live(values),
        *_gateway(values),
        *_packages(values),
        *_telegram(values),
        *_canary(values),
        *_one_address_each(values),
    ]
    if is_production(values.get("CHAIN_ID", ""), values.get("DEPLOY_ENV", "")):
        found += _production(values)
    return found


def is_production(chain_id: str | int, deploy_env: str) -> bool:
    """Everything counts as production that does not say twice that it is a rehearsal."""
    return str(chain_id) != str(REHEARSAL_CHAIN_ID) or deploy_env not in REHEARSALS


def _live(values: Mapping[str, str]) -> list[str]:
    if values.get("EXEC_MODE") != "LIVE":
        return []
    signing = SIGNER_NEEDS.get(values.get("SIGNER_BACKEND", "keyfile"), ())
    missing = _missing(values, (*CAPS, *signing, *VENUE_ADDRESSES))
    found = [f"EXEC_MODE=LIVE needs {', '.join(missing)}"] if missing else []
    # Without coincurve the same signatures come from plain Python, at an eighth of the speed, unnoticed.
    if not _is_there("coincurve"):
        found.append("EXEC_MODE=LIVE needs the Python package coincurve, which cannot be imported here")
    return found


def _gateway(values: Mapping[str, str]) -> list[str]:
    """Messages go to somebody."""
    if values.get("VENUE") != "gateway":
        return []
    missing = _missing(values, GATEWAY_URLS)
    return [f"VENUE=gateway needs {', '.join(missing)}"] if missing else []


def _telegram(values: Mapping[str, str]) -> list[str]:
    """Updates are posted to an address only together with a secret, in the letters that the Bot API takes."""
    url, secret = values.get("TELEGRAM_WEBHOOK_URL", ""), values.get("TELEGRAM_WEBHOOK_SECRET", "")
    if url and not secret:
        return ["TELEGRAM_WEBHOOK_URL needs TELEGRAM_WEBHOOK_SECRET: without it anybody could say anything"]
    if secret and not HOOK_SECRET.fullmatch(secret):
        return ["TELEGRAM_WEBHOOK_SECRET: 32 to 256 of A-Z a-z 0-9 _ -; `openssl rand -hex 32` makes one"]
    return []


def _packages(values: Mapping[str, str]) -> list[str]:
    if values.get("SIGNER_BACKEND") == "kms" and not _is_there("boto3"):
        return ["SIGNER_BACKEND=kms needs the Python package boto3, which cannot be imported here"]
    return []


def _is_there(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def _canary(values: Mapping[str, str]) -> list[str]:
    if values.get("CANARY_ENABLED", "").lower() not in TRUE:
        return []
    missing = _missing(values, CAPS)
    return [f"CANARY_ENABLED=true needs {', '.join(missing)}"] if missing else []


def _missing(values: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    # A list of nothing but commas is a blank one.
    return [name for name in names if not values.get(name, "").strip(", ")]


def _one_address_each(values: Mapping[str, str]) -> list[str]:
    given = [(name, values[name].lower()) for name in VENUE_ADDRESSES if values.get(name)]
    return [
        f"{name}: is the same address as {other}"
        for place, (name, address) in enumerate(given)
        for other, earlier in given[:place]
        if address == earlier
    ]


def _production(values: Mapping[str, str]) -> list[str]:
    found = []
    for place, name in enumerate(KEYS):
        key = values.get(name, "")
        if not key:
            continue  # named as missing already
        if len(key) < MINIMUM_KEY_LENGTH:
            found.append(f"{name}: production needs at least {MINIMUM_KEY_LENGTH} characters")
        elif is_example(key):
            found.append(f"{name}: is an example or too regular; make one with `openssl rand -hex 32`")
        found += [f"{name}: is the same as {other}" for other in KEYS[:place] if values.get(other) == key]
    password = values.get("SIGNER_KEY_PASSWORD", "")
    if password:
        if len(password) < MINIMUM_PASSWORD_LENGTH:
            found.append(
                f"SIGNER_KEY_PASSWORD: production needs at least {MINIMUM_PASSWORD_LENGTH} characters"
            )
        elif is_example(password):
            found.append("SIGNER_KEY_PASSWORD: is an example or too regular")
        found += [
            f"SIGNER_KEY_PASSWORD: is the same as {other}" for other in KEYS if values.get(other) == password
        ]
    hosts = {host.strip() for host in values.get("ALLOWED_HOSTS", "").split(",")}
    if "*" in hosts:
        found.append("ALLOWED_HOSTS: * answers to any name; production names its hosts")
    return found + _in_private(values) + _signer(values)


def _in_private(values: Mapping[str, str]) -> list[str]:
    """What carries secrets or orders goes by https, or stays on the machine."""
    why = {
        **dict.fromkeys(GATEWAY_URLS, "production speaks to the gateway by https"),
        **dict.fromkeys(FEED_URLS, "production asks for prices and market hours by https, or on loopback"),
        "TELEGRAM_WEBHOOK_URL": "Telegram posts to https only, and the secret is part of every post",
        "TELEGRAM_PAGES_URL": "people sign there; production shows pages by https",
        "TELEGRAM_API_BASE": "the token is part of every request; production asks by https, or on loopback",
    }
    urls = {name: urlsplit(values.get(name, "")) for name in why}
    return [
        f"{name}: {why[name]}"
        for name, url in urls.items()
        if url.scheme == "http" and url.hostname not in LOOPBACK
    ]


def _signer(values: Mapping[str, str]) -> list[str]:
    """Keys and the journal of signatures outlive a checkout; a remote signer is spoken to in private."""
    if values.get("EXEC_MODE") != "LIVE":
        return []
    found = []
    backend = values.get("SIGNER_BACKEND", "keyfile")
    if backend == "keyfile" and not PurePath(values.get("SIGNER_KEY_DIR", "")).is_absolute():
        found.append("SIGNER_KEY_DIR: production keeps its keys in a folder named by an absolute path")
    if not PurePath(values.get("SIGNER_JOURNAL_DIR", "")).is_absolute():
        found.append("SIGNER_JOURNAL_DIR: production keeps it in a folder named by an absolute path")
    url = urlsplit(values.get("WEB3SIGNER_URL", ""))
    if backend == "web3signer" and url.scheme == "http" and url.hostname not in LOOPBACK:
        found.append("WEB3SIGNER_URL: whoever can ask can trade; production asks by https, or on loopback")
    return found


def is_example(value: str) -> bool:
    low = value.lower()
    return len(set(value)) < MINIMUM_KEY_CHARACTERS or any(part in low for part in EXAMPLES)
