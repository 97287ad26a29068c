"""How each kind of variable is written. Pure; every function raises ValueError with the rule, never the value."""

import re
from decimal import Decimal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

from execution_app.venues.onchain import PAIRS

MAX_ENDPOINTS = 8
MAX_KMS_KEYS = 64
ZERO_ADDRESS = "0x" + "0" * 40
# What a connection to PostgreSQL may be told in its URL; anything else would be dropped unseen.
DATABASE_OPTIONS = frozenset(
    {
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "channel_binding",
        "target_session_attrs",
        "application_name",
    }
)
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?", re.ASCII)
_KMS_KEY = re.compile(
    r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/|alias/)?[A-Za-z0-9/_-]{1,250}", re.ASCII
)
_HOST = re.compile(r"\*|\.?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]", re.ASCII)


def amount(text: str, digits: int) -> Decimal:
    """A plain decimal number above zero; Python's own spellings (`1e3`, `1_000`) are refused."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a plain decimal number such as 10 or 2.5")
    if len(text.partition(".")[2]) > digits:
        raise ValueError(f"must have at most {digits} decimals")
    number = Decimal(text)
    if number <= 0:
        raise ValueError("must be above zero")
    return number


def database_url(text: str) -> str:
    url = _url(text, ("postgresql", "postgres"))
    if not url.path.strip("/") or "/" in url.path.strip("/"):
        raise ValueError("must end with the name of the database")
    if not url.username:
        raise ValueError("must name a user")
    unknown = {name for name, _ in parse_qsl(url.query, keep_blank_values=True)} - DATABASE_OPTIONS
    if unknown:
        raise ValueError(f"has options that are not supported: {', '.join(sorted(unknown))}")
    return text


def redis_url(text: str) -> str:
    # No unix://, since Celery's transport does not know that spelling.
    url = _url(text, ("redis", "rediss"))
    if not re.fullmatch(r"/?[0-9]{0,4}", url.path, re.ASCII):
        raise ValueError("must end with the number of the Redis database, such as /0")
    return text


def http_urls(text: str) -> str:
    """One URL or several, separated by commas. The same one twice would confirm itself."""
    urls = [part.strip() for part in text.split(",") if part.strip()]
    if not urls:
        raise ValueError("names no endpoint")
    for url in urls:
        _url(url, ("https", "http"))
    if len(set(urls)) < len(urls):
        raise ValueError("names an endpoint twice")
    if len(urls) > MAX_ENDPOINTS:
        raise ValueError(f"names more than {MAX_ENDPOINTS} endpoints")
    return text


def http_url(text: str) -> str:
    """One URL, without a query or a fragment, since paths are put behind it."""
    url = _url(text, ("https", "http"))
    if url.query or url.fragment:
        raise ValueError("must end with its path")
    return text


def chat_id(text: str) -> str:
    """A chat of Telegram's: a number of up to 18 digits, below zero for groups and channels."""
    if not re.fullmatch(r"-?[1-9][0-9]{0,17}", text, re.ASCII):
        raise ValueError("must be the number of a chat, such as -1001234567890")
    return text


def kms_keys(text: str) -> str:
    """Ids, ARNs or aliases of keys, separated by commas."""
    keys = [part.strip() for part in text.split(",") if part.strip()]
    if any(not _KMS_KEY.fullmatch(key) for key in keys):
        raise ValueError("must be ids, ARNs or aliases (alias/NAME) of KMS keys, separated by commas")
    if len(set(keys)) < len(keys):
        raise ValueError("names a key twice")
    if len(keys) > MAX_KMS_KEYS:
        raise ValueError(f"names more than {MAX_KMS_KEYS} keys")
    return ",".join(keys)


def address(text: str) -> str:
    if not text.startswith("0x") or not is_hex_address(text):
        raise ValueError("must be an address: 0x and 40 hex digits")
    if text == ZERO_ADDRESS:
        raise ValueError("must not be the zero address")
    if text not in {text.lower(), "0x" + text[2:].upper()} and not is_checksum_address(text):
        raise ValueError("has a wrong checksum: a letter's case or a digit was mistyped")
    return str(to_checksum_address(text))


def symbols(text: str) -> str:
    """Pairs of the venue, separated by commas, in upper case."""
    names = [part.strip().upper() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in PAIRS]
    if unknown:
        raise ValueError(f"no such pair: {', '.join(unknown)}; known are {', '.join(sorted(PAIRS))}")
    return ",".join(names)


def hosts(text: str) -> str:
    names = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [name for name in names if not _HOST.fullmatch(name)]
    if wrong:
        raise ValueError(f"must be host names without scheme, port or path: {', '.join(wrong)}")
    return ",".join(names)


def domain(text: str) -> str:
    """One host name, or blank."""
    if text and not _HOST.fullmatch(text):
        raise ValueError("must be one host name without scheme, port or path")
    return text


def _url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("is not a URL, or its port is not a number up to 65535") from None
    if url.scheme not in schemes or not text.startswith(f"{url.scheme}://"):
        raise ValueError(f"must begin with {wanted}")
    if not url.hostname:
        raise ValueError("names no host")
    if port == 0:
        raise ValueError("port 0 is no port")
    if re.search(r"\s", text):
        raise ValueError("must not contain spaces")
    return url
