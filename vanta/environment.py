"""What the environment may say, checked once at start.

Every mistake is collected and named in one message; a process with a mistake
does not start. `NAME_FILE` holds the path of a file with the value of `NAME`.
A blank value counts as unset.
"""

import os
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from vanta import formats, slips, soundness

Mode = Literal["DRY", "LIVE"]

REHEARSAL_CHAIN_ID = soundness.REHEARSAL_CHAIN_ID
# These may stand in a file of their own, named by NAME_FILE. A node's URL often carries a key.
SECRETS = frozenset(
    {
        "DATABASE_URL",
        "REDIS_URL",
        "BASE_RPC_URL",
        "WEBHOOK_HMAC_SECRET",
        "ADMIN_TOKEN",
        "SECRET_KEY",
        "SIGNER_KEY_PASSWORD",
        "WEB3SIGNER_URL",
        "TELEGRAM_BOT_TOKEN",
        "TELEGRAM_WEBHOOK_SECRET",
        "ALERT_DEAD_MAN_URL",
    }
)
MINIMUM_STREAK = 3
UPPER_CASE = frozenset({"EXEC_MODE", "LOG_LEVEL"})


def _as_written(rule: Callable[[str], str]) -> BeforeValidator:
    return BeforeValidator(lambda value: rule(str(value)))


def _decimals(digits: int) -> BeforeValidator:
    return BeforeValidator(
        lambda value: formats.amount(value, digits) if isinstance(value, str) else value,
    )


Address = Annotated[str, _as_written(lambda text: formats.address(text) if text else "")]


class Environment(BaseModel):
    """One field per variable; the names are the contract's, in lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Django asks for it at every access of a setting; that a model has no such name took longer than all of the access.
    _mask_wrapped: ClassVar[bool] = True

    database_url: Annotated[SecretStr, _as_written(formats.database_url)]
    redis_url: Annotated[SecretStr, _as_written(formats.redis_url)]
    base_rpc_url: Annotated[str, _as_written(formats.http_urls)] = Field(repr=False)
    chain_id: int = Field(gt=0)
    exec_mode: Mode = "DRY"
    force_dry: bool = False
    force_dry_path: Path = Path("var/FORCE_DRY")
    allow_live_after_streak: int = Field(default=MINIMUM_STREAK, ge=MINIMUM_STREAK, le=100)
    canary_enabled: bool = False
    max_notional_usdc: Annotated[Decimal | None, _decimals(6)] = None
    max_leverage: Annotated[Decimal | None, _decimals(4)] = None
    allowed_symbols: Annotated[str, _as_written(formats.symbols)] = ""
    # Ceilings over all orders of this deployment; unset, only the database's caps bind.
    max_collateral_usdc: Annotated[Decimal | None, _decimals(6)] = None
    max_open_positions: int | None = Field(default=None, gt=0)
    max_exposure_usdc: Annotated[Decimal | None, _decimals(6)] = None
    max_orders_per_minute: int | None = Field(default=None, gt=0)
    max_daily_loss_usdc: Annotated[Decimal | None, _decimals(6)] = None
    max_gas_per_day_wei: int | None = Field(default=None, gt=0)
    deploy_env: str = Field(default="production", pattern=r"^[a-z][a-z0-9-]{0,31}$")
    deploy_version: str = Field(default="", max_length=64)
    webhook_hmac_secret: SecretStr = Field(min_length=16)
    admin_token: SecretStr = Field(min_length=16)
    secret_key: SecretStr = Field(min_length=32)
    telegram_bot_token: SecretStr = SecretStr("")
    telegram_api_base: Annotated[str, _as_written(formats.http_url)] = "https://api.telegram.org"
    # Updates are posted there; blank, they are polled.
    telegram_webhook_url: Annotated[str, _as_written(lambda text: formats.http_url(text) if text else "")] = (
        ""
    )
    telegram_webhook_secret: SecretStr = SecretStr("")
    telegram_webhook_port: int = Field(default=8091, ge=1, le=65535)
    # Where people reach the web process, for the page of /bind.
    telegram_pages_url: Annotated[str, _as_written(lambda text: formats.http_url(text) if text else "")] = ""
    # Delivery itself is Alertmanager's, whose start reads them from the same file (config/start-alertmanager).
    alert_chat_id: Annotated[int | None, _as_written(formats.chat_id)] = None
    alert_ticket_chat_id: Annotated[int | None, _as_written(formats.chat_id)] = None
    alert_dead_man_url: Annotated[
        SecretStr, _as_written(lambda text: formats.http_url(text) if text else "")
    ] = SecretStr("")
    runbook_url: Annotated[str, _as_written(formats.http_url)] = "http://localhost:8090/admin/runbook/"
    alertmanager_url: Annotated[str, _as_written(lambda text: formats.http_url(text) if text else "")] = ""
    telegram_may_resume: bool = False
    # Notional of a trader, all in all, above which an open in Telegram wants a one-time code.
    telegram_code_above_usdc: Annotated[Decimal, _decimals(6)] = Decimal(100)
    allowed_hosts: Annotated[str, _as_written(formats.hosts)] = "localhost,127.0.0.1"
    # The domain that passkeys of the admin site are bound to; blank: the host that is asked.
    passkey_domain: Annotated[str, _as_written(formats.domain)] = ""
    trusted_proxies: int = Field(default=0, ge=0, le=8)
    signer_backend: Literal["keyfile", "keystore", "kms", "web3signer"] = "keyfile"
    signer_key_dir: Path = Path("var/keys")
    state_dir: Path = Path("var/state")
    signer_key_password: SecretStr = SecretStr("")
    signer_keystore_path: Path = Path("var/keystores")
    signer_kms_keys: Annotated[str, _as_written(formats.kms_keys)] = ""
    web3signer_url: Annotated[SecretStr, _as_written(lambda text: formats.http_url(text) if text else "")] = (
        SecretStr("")
    )
    # A stop waits for a signature no longer than a lease, so an answer later than that is worthless.
    signer_timeout_s: int = Field(default=2, ge=1, le=3)
    signer_journal_dir: Path = Path("var/signer-journal")
    enable_rbf: bool = True
    venue: Literal["onchain", "gateway"] = "onchain"
    veranta_batched_market_url: Annotated[
        str, _as_written(lambda text: formats.http_url(text).rstrip("/") if text else "")
    ] = ""
    veranta_core_api_url: Annotated[
        str, _as_written(lambda text: formats.http_url(text).rstrip("/") if text else "")
    ] = ""
    # What prices and market hours are compared with; blank, the chain's price alone counts and no hours are known.
    veranta_feed_url: Annotated[
        str, _as_written(lambda text: formats.http_url(text).rstrip("/") if text else "")
    ] = ""
    veranta_data_api_url: Annotated[
        str, _as_written(lambda text: formats.http_url(text).rstrip("/") if text else "")
    ] = ""
    # From the decision of a simulated order to its fill; 60 s is `dues.KEEPER_MOST`.
    dry_keeper_delay_ms: int = Field(default=4_000, ge=0, le=60_000)
    max_price_deviation_pct: Annotated[Decimal, _decimals(4)] = Field(default=Decimal(1), le=50)
    venue_trading_address: Address = ""
    venue_storage_address: Address = ""
    usdc_address: Address = ""
    venue_price_aggregator_address: Address = ""
    max_fee_per_gas_gwei: Annotated[Decimal, _decimals(9)] = Decimal(50)
    # What recent blocks were paid at this percentile is the tip, at least the floor.
    tip_percentile: int = Field(default=50, ge=1, le=99)
    min_tip_gwei: Annotated[Decimal, _decimals(9)] = Decimal("0.001")
    at_fee_ceiling: Literal["hold", "cancel"] = "hold"
    gas_margin_pct: int = Field(default=40, ge=0, le=300)
    max_in_flight: int = Field(default=16, ge=1, le=512)
    rebroadcast_after_s: int = Field(default=4, ge=1, le=600)
    bump_after_s: int = Field(default=10, ge=2, le=3600)
    rpc_faults_to_rest: int = Field(default=3, ge=1, le=100)
    rpc_slow_after_s: float = Field(default=5, gt=0, le=60, allow_inf_nan=False)
    rpc_rest_s: float = Field(default=10, gt=0, le=600, allow_inf_nan=False)
    rpc_rest_limit_s: float = Field(default=120, gt=0, le=3600, allow_inf_nan=False)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    prometheus_multiproc_dir: str = ""

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset(part.strip().upper() for part in self.allowed_symbols.split(",") if part.strip())

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.base_rpc_url.split(",") if part.strip())

    @property
    def secrets(self) -> list[str]:
        """Every secret that was told, and each node's URL, in which a key may stand."""
        told = [getattr(self, name) for name in type(self).model_fields]
        found = [value.get_secret_value() for value in told if isinstance(value, SecretStr)]
        return [value for value in (*found, *self.rpc_urls) if value]

    @property
    def hosts(self) -> list[str]:
        """ALLOWED_HOSTS, and loopback: health checks come from inside."""
        named = [host for host in self.allowed_hosts.split(",") if host]
        return list(dict.fromkeys([*named, "localhost", "127.0.0.1", "[::1]"]))

    @property
    def is_production(self) -> bool:
        return soundness.is_production(self.chain_id, self.deploy_env)


class Misconfigured(SystemExit):
    """The process must not start; the message names every mistake."""


def read(environ: Mapping[str, str]) -> Environment:
    """Build the environment from variables, blank values counting as unset.

    Raises Misconfigured with one line per mistake.
    """
    known = {name.upper() for name in Environment.model_fields}
    values, mistakes = _given(environ, known)
    mistakes = [*_misspelt(environ, known), *mistakes]
    environment = None
    try:
        environment = Environment.model_validate({name.lower(): value for name, value in values.items()})
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            name = str(item["loc"][0]).upper()
            text = "missing" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
            if f"{name}_FILE: " not in "".join(mistakes):  # a file that cannot be read was named already
                mistakes.append(f"{name}: {text}")
    mistakes += soundness.mistakes(values)
    if mistakes or environment is None:
        lines = "\n".join(f"  - {mistake}" for mistake in mistakes)
        raise Misconfigured(f"Vanta does not start; the environment has {len(mistakes)} mistake(s):\n{lines}")
    return environment


def _given(environ: Mapping[str, str], known: set[str]) -> tuple[dict[str, str], list[str]]:
    """The values that are not blank, from variables or their files, and what was wrong with the files."""
    values: dict[str, str] = {}
    mistakes = []
    for name in sorted(known):
        value = environ.get(name, "").strip()
        path = environ.get(f"{name}_FILE", "").strip() if name in SECRETS else ""
        if value and path:
            mistakes.append(f"{name}: set it or {name}_FILE, not both")
        elif path:
            try:
                value = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                mistakes.append(f"{name}_FILE: cannot be read ({error.strerror})")
            except UnicodeDecodeError:
                mistakes.append(f"{name}_FILE: is not UTF-8 text")
            else:
                if not value:
                    mistakes.append(f"{name}_FILE: the file is empty")
        if value:
            values[name] = value.upper() if name in UPPER_CASE else value
    return values, mistakes


def _misspelt(environ: Mapping[str, str], known: set[str]) -> list[str]:
    """Unknown names that were probably meant to be a known one, and files of what is no secret."""
    spelled = known | {f"{name}_FILE" for name in SECRETS}
    mistakes = []
    for name in sorted(set(environ) - spelled):
        if name.endswith("_FILE") and name.removesuffix("_FILE") in known:
            mistakes.append(f"{name}: only secrets are read from files; set {name.removesuffix('_FILE')}")
        elif meant := slips.meant(name, known, SECRETS):
            mistakes.append(f"{name}: unknown; did you mean {meant}?")
    return mistakes


def current() -> Environment:
    return read(os.environ)
