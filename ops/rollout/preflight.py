"""Whether this environment can trade at all, asked of every server before the first signal."""

import json
import stat
from collections.abc import Callable, Iterator
from decimal import Decimal

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseError
from django.db import connection
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

from execution_app.errors import Refused, Retryable
from execution_app.gate import watch
from execution_app.models import Trader, Wallet
from execution_app.node import gateway, rpc, signers
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.states import Road
from execution_app.venues import onchain
from execution_app.venues.scales import USDC_DIGITS, from_units
from ops.rollout import alerting, feed_check
from ops.rollout.findings import Finding, Status
from ops.watch import node, readiness

TIMEOUT_S = 5.0
REHEARSAL_CHAIN_ID = 31337
BASE_CHAIN_ID = 8453
# The live venue's minimum as of July 2026; it has no view of it that is known to us.
BASE_MINIMUM_NOTIONAL_USDC = Decimal(100)
NO_ORDER = "00000000-0000-0000-0000-000000000000"
LIMITS = keccak(text="limits()")[:4]


def examine() -> list[Finding]:
    """Every check; one that depends on a server which is away fails without asking it again."""
    findings = [_environment(), _database(), _redis(), *_nodes()]
    names = {finding.name: finding for finding in findings}
    if names["database"].status == "ok":
        findings += [_people(), _wallets()]
    findings += [_signer(), *alerting.examine()]
    if any(finding.status == "ok" for finding in findings if finding.name.startswith("node ")):
        findings += _venue()
    else:
        findings.append(Finding("venue", "fail", "not asked: no endpoint answers on this chain"))
    return findings


def _environment() -> Finding:
    """It has no mistakes, or the command would not run; what is left to say is what it asks for."""
    environment = settings.ENVIRONMENT
    mode = "DRY (FORCE_DRY)" if environment.force_dry else environment.exec_mode
    canary = ", canary" if environment.canary_enabled else ""
    detail = f"{environment.deploy_env} {environment.deploy_version or settings.VERSION}, {mode}{canary}"
    return Finding(
        "environment", "ok", f"{detail}, signer {environment.signer_backend}, venue {environment.venue}"
    )


def _database() -> Finding:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
    except DatabaseError as error:
        return Finding("database", "fail", type(error).__name__, "check DATABASE_URL and that it answers")
    problem = readiness.look()
    if problem:
        step = "manage.py migrate" if "migration" in problem else ""
        return Finding("database", "fail", problem, step)
    return Finding("database", "ok", f"PostgreSQL {version}, every migration applied")


def _redis() -> Finding:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        decode_responses=True,
    )
    try:
        value = client.get(watch.KEY)
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.ResponseError:
        return Finding("redis", "ok", "answers")  # managed servers forbid CONFIG
    except (redis.RedisError, OSError) as error:
        return Finding("redis", "fail", type(error).__name__, "check REDIS_URL and that it answers")
    finally:
        client.close()
    if policy != "noeviction":
        return Finding("redis", "warn", f"may evict keys ({policy}): set maxmemory-policy to noeviction")
    return Finding("redis", "ok", f"answers, {watch.KEY} is {_mode_word(value)}")


def _mode_word(value: object) -> str:
    try:
        mode = json.loads(str(value))["mode"] if value else "not set yet"
    except (ValueError, TypeError, KeyError):
        return "unreadable"
    return str(mode)


def _nodes() -> Iterator[Finding]:
    environment = settings.ENVIRONMENT
    for position, url in enumerate(environment.rpc_urls):
        problem = node.problem(url, environment.chain_id, TIMEOUT_S)
        if problem:
            step = f"endpoint {position} of BASE_RPC_URL must answer on chain {environment.chain_id}"
            yield Finding(f"node {position}", "fail", problem, step)
        else:
            yield Finding(f"node {position}", "ok", f"on chain {environment.chain_id}, its head is fresh")
    if len(environment.rpc_urls) == 1 and environment.is_production:
        yield Finding("nodes", "warn", "one endpoint only: nobody confirms what it does not know")


def _people() -> Finding:
    admins = get_user_model().objects.filter(is_active=True, is_superuser=True).count()
    if not admins:
        return Finding("people", "warn", "no admin can log in", "manage.py create_admin NAME")
    traders = Trader.objects.filter(enabled=True).count()
    if not traders:
        step = "manage.py trader add TG_USER_ID --address 0x…"
        return Finding("people", "warn", f"{admins} admins, no enabled trader", step)
    return Finding("people", "ok", f"{admins} admins, {traders} enabled traders")


def _wallets() -> Finding:
    wallets = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id)
    halted = wallets.exclude(halted_reason="").count()
    if halted:
        return Finding("wallets", "fail", f"{halted} halted", "manage.py wallet status says why")
    idle = Trader.objects.filter(enabled=True, wallet=None).values_list("tg_user_id", flat=True)[:5]
    if idle:
        who = ", ".join(map(str, idle))
        return Finding("wallets", "warn", f"no wallet: trader {who}", "manage.py wallet create TG_USER_ID")
    return Finding("wallets", "ok", f"{wallets.count()} on this chain, none halted")


def _signer() -> Finding:
    environment = settings.ENVIRONMENT
    if environment.signer_backend != "keyfile":
        return _other_signer(environment.signer_backend)
    folder = environment.signer_key_dir
    if not environment.signer_key_password.get_secret_value():
        status: Status = "fail" if environment.exec_mode == "LIVE" else "warn"
        return Finding(
            "signer", status, "no password: no key can be made or opened", "set SIGNER_KEY_PASSWORD"
        )
    if not folder.is_dir():
        return Finding("signer", "warn", "no key folder yet", "manage.py wallet create TG_USER_ID makes it")
    if folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding("signer", "fail", "others may look into the key folder", f"chmod 700 {folder}")
    return Finding("signer", "ok", f"{len(list(folder.glob('0x*.json')))} keystores, closed to others")


def _other_signer(name: str) -> Finding:
    try:
        found = signers.addresses()
    except (Refused, Retryable) as problem:
        return Finding("signer", "fail", str(problem), f"check {name} and its settings")
    wallets = {address.lower() for address in Wallet.objects.values_list("address", flat=True)}
    missing = sorted(wallets - set(found))
    if missing:
        return Finding("signer", "fail", f"{name} has no key for {', '.join(missing)}", "bring the keys")
    return Finding("signer", "ok", f"{name} has {len(found)} keys, one for every wallet")


def _venue() -> Iterator[Finding]:
    steps: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("contracts", _contracts),
        ("pairs", _pairs),
        ("prices", _prices),
        ("feed", feed_check.prices),
        ("market hours", feed_check.hours),
        ("minimum", _minimum),
        *([("gateway", _gateway)] if settings.ENVIRONMENT.venue == Road.GATEWAY.value else []),
    )
    for name, step in steps:
        try:
            found = step()
        except (RpcFault, NodeError, ValueError) as error:
            found = Finding(name, "fail", f"the venue does not answer as expected: {error}")
        yield found
        if name == "contracts" and found.status == "fail":
            return


def _contracts() -> Finding:
    environment = settings.ENVIRONMENT
    addresses = {
        "VENUE_TRADING_ADDRESS": environment.venue_trading_address,
        "VENUE_STORAGE_ADDRESS": environment.venue_storage_address,
        "USDC_ADDRESS": environment.usdc_address,
        "VENUE_PRICE_AGGREGATOR_ADDRESS": environment.venue_price_aggregator_address,
    }
    blank = [name for name, address in addresses.items() if not address]
    if blank:
        return Finding("contracts", "fail", f"not set: {', '.join(blank)}", f"set {blank[0]}")
    codes = rpc.read_batch([("eth_getCode", (address, "latest")) for address in addresses.values()])
    bare = [
        name
        for name, code in zip(addresses, codes, strict=True)
        if isinstance(code, NodeError) or code in {"0x", None}
    ]
    if bare:
        return Finding(
            "contracts", "fail", f"no contract at {', '.join(bare)}", "check the venue's addresses"
        )
    return Finding("contracts", "ok", "all four are there")


def _pairs() -> Finding:
    symbols = sorted(settings.ENVIRONMENT.symbols)
    if not symbols:
        return Finding(
            "pairs", "fail", "ALLOWED_SYMBOLS is blank: nothing may be opened", "set ALLOWED_SYMBOLS"
        )
    aggregator = settings.ENVIRONMENT.venue_price_aggregator_address
    answers = rpc.read_views([(aggregator, onchain.call_pair_name(onchain.PAIRS[name])) for name in symbols])
    wrong = [
        f"{name} is {onchain.read_pair_name(raw)} there"
        for name, raw in zip(symbols, answers, strict=True)
        if onchain.read_pair_name(raw) != name
    ]
    if wrong:
        return Finding("pairs", "fail", "; ".join(wrong), "trade nothing before the pairs' numbers are right")
    return Finding("pairs", "ok", f"{', '.join(symbols)} are called so by the venue")


def _prices() -> Finding:
    symbols = sorted(settings.ENVIRONMENT.symbols)
    aggregator = settings.ENVIRONMENT.venue_price_aggregator_address
    answers = rpc.read_views([(aggregator, onchain.call_price(onchain.PAIRS[name])) for name in symbols])
    prices = [f"{name} {onchain.read_price(raw)[0]:f}" for name, raw in zip(symbols, answers, strict=True)]
    return Finding("prices", "ok", ", ".join(prices))


def _minimum() -> Finding:
    """Whether an order under the cap can fill. A canary of 10 USDC never can where 100 is the minimum."""
    environment = settings.ENVIRONMENT
    least_usdc, source = minimum_notional_usdc()
    cap_usdc = environment.max_notional_usdc
    if cap_usdc is None:
        return Finding("minimum", "fail", "MAX_NOTIONAL_USDC is not set: nothing may be opened", "set it")
    words = f"the venue fills nothing below {least_usdc:f} USDC of notional ({source})"
    if cap_usdc < least_usdc:
        step = f"set MAX_NOTIONAL_USDC to at least {least_usdc:f}, or rehearse on chain {REHEARSAL_CHAIN_ID}"
        return Finding(
            "minimum", "fail", f"{words}: under MAX_NOTIONAL_USDC={cap_usdc:f} no order can ever fill", step
        )
    return Finding("minimum", "ok", f"{words}, the cap is {cap_usdc:f}")


def _gateway() -> Finding:
    """Whether messages can be posted, and followed: what tells a spent nonce is all that is known of their fate."""
    trading = settings.ENVIRONMENT.venue_trading_address
    (word,) = rpc.read_views([(trading, onchain.call_nonce_bitmap(trading, 0))])
    onchain.read_uint(word)
    try:
        gateway.status(NO_ORDER, -1)
    except gateway.UnknownOrderError:
        return Finding("gateway", "ok", "it answers, and the venue tells spent nonces")
    except Retryable as problem:
        return Finding(
            "gateway", "fail", str(problem), "check VERANTA_BATCHED_MARKET_URL and that it answers"
        )
    return Finding("gateway", "warn", "it knows an order that nobody posted")


def minimum_notional_usdc() -> tuple[Decimal, str]:
    """The smallest notional the venue fills, and where that is known from. Raises NodeError and RpcFault."""
    environment = settings.ENVIRONMENT
    if environment.chain_id == BASE_CHAIN_ID:
        return BASE_MINIMUM_NOTIONAL_USDC, "as published in July 2026"
    (raw,) = rpc.read_views([(environment.venue_trading_address, LIMITS)])
    try:
        least_units: int = decode(("uint256", "uint256", "uint256", "uint256"), raw)[0]
    except DecodingError as error:
        raise ValueError("limits() has another shape") from error
    return from_units(least_units, USDC_DIGITS), "its limits()"
