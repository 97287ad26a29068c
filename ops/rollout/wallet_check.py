"""Whether a trader's delegate wallet can trade, asked of the database, the key folder and the chain."""

from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from execution_app.errors import Refused, Retryable
from execution_app.models import Trader, Wallet
from execution_app.node import gas, rpc, signers
from execution_app.venues import onchain
from execution_app.venues.scales import USDC_DIGITS, from_units
from ops.rollout.findings import Finding

# What one order costs beyond the venue's fee. An open takes a few hundred thousand gas.
ORDER_GAS = 800_000
# One open and the close that ends it.
ORDERS_AT_LEAST = 2
ORDERS_WANTED = 10
DAY_S = 86_400
EXPIRES_SOON_S = 7 * DAY_S
DELEGATION_AT_MOST_S = 90 * DAY_S
# Nobody owns that much: an "unlimited" approval.
UNLIMITED_UNITS = 10**15


@dataclass(frozen=True)
class OnChain:
    """What the chain says at its latest block; wei, USDC and seconds."""

    balance_wei: int
    count: int
    order_cost_wei: int
    usdc: Decimal
    allowance_units: int
    delegate: str
    expires_in_s: int


def examine(trader: Trader, wallet: Wallet) -> list[Finding]:
    """Every check, the earliest necessary step first. Raises RpcFault and NodeError of the node's."""
    chain = ask(trader, wallet)
    return [
        _trader(trader),
        _key(wallet),
        _halt(wallet),
        _nonce(wallet, chain),
        _gas(wallet, chain),
        _usdc(trader, chain),
        _allowance(trader, chain),
        _delegation(wallet, chain),
    ]


def examine_from_outside(trader: Trader, wallet: Wallet) -> tuple[OnChain, list[Finding]]:
    """What can be told without the folder of keys, and what the chain said. Raises as `examine`."""
    chain = ask(trader, wallet)
    checks = (
        _gas(wallet, chain),
        _usdc(trader, chain),
        _allowance(trader, chain),
        _delegation(wallet, chain),
    )
    return chain, [_trader(trader), _halt(wallet), *checks]


def ask(trader: Trader, wallet: Wallet) -> OnChain:
    environment = settings.ENVIRONMENT
    market = gas.look()
    balance, count, gas_price, block = (
        rpc.read("eth_getBalance", wallet.address, "latest"),
        rpc.read("eth_getTransactionCount", wallet.address, "latest"),
        rpc.read("eth_gasPrice"),
        rpc.read("eth_getBlockByNumber", "latest", False),
    )
    fee, usdc, allowance, delegation = rpc.read_views(
        [
            (environment.venue_trading_address, onchain.call_execution_fee()),
            (environment.usdc_address, onchain.call_balance(trader.address)),
            (
                environment.usdc_address,
                onchain.call_allowance(trader.address, environment.venue_storage_address),
            ),
            (environment.venue_trading_address, onchain.call_delegate(trader.address)),
        ]
    )
    delegate, expiry_s = onchain.read_delegate(delegation)
    return OnChain(
        balance_wei=int(balance, 16),
        count=int(count, 16),
        order_cost_wei=onchain.read_uint(fee) + ORDER_GAS * int(gas_price, 16) + market.l1_fee_wei,
        usdc=from_units(onchain.read_uint(usdc), USDC_DIGITS),
        allowance_units=onchain.read_uint(allowance),
        delegate=delegate,
        expires_in_s=expiry_s - int(block["timestamp"], 16),
    )


def _trader(trader: Trader) -> Finding:
    if not trader.enabled:
        return Finding("trader", "fail", "disabled", f"manage.py trader enable {trader.tg_user_id}")
    return Finding("trader", "ok", f"enabled, trades from {trader.address}")


def _key(wallet: Wallet) -> Finding:
    name = settings.ENVIRONMENT.signer_backend
    if name != "keyfile":
        try:
            signers.require_key(wallet.address)
        except (Refused, Retryable) as problem:
            return Finding("key", "fail", str(problem), f"check {name} and its settings")
        return Finding("key", "ok", f"{name} has the key of {wallet.address}")
    if not signers.has_key(wallet.address):
        step = f"bring the keystore of {wallet.address} back into SIGNER_KEY_DIR from its backup"
        return Finding("key", "fail", "its keystore is missing", step)
    return Finding("key", "ok", f"keystore of {wallet.address} is there")


def _halt(wallet: Wallet) -> Finding:
    if wallet.halted_reason:
        return Finding(
            "halt",
            "fail",
            f"halted: {wallet.halted_reason}",
            f"manage.py wallet adopt {wallet.trader.tg_user_id} shows what the chain knows",
        )
    return Finding("halt", "ok", "not halted")


def _nonce(wallet: Wallet, chain: OnChain) -> Finding:
    if chain.count > wallet.next_nonce:
        detail = f"the chain has {chain.count} transactions, this database signed {wallet.next_nonce}"
        step = "the key is used elsewhere, or this database is an old copy: trade with neither until that is known"
        return Finding("nonce", "fail", detail, step)
    waiting = wallet.next_nonce - chain.count
    return Finding("nonce", "ok", f"{chain.count} on the chain, {waiting} under way")


def _gas(wallet: Wallet, chain: OnChain) -> Finding:
    orders = chain.balance_wei // max(1, chain.order_cost_wei)
    detail = f"{from_units(chain.balance_wei, 18):f} ETH, enough for about {orders} orders"
    wanted_wei = ORDERS_WANTED * chain.order_cost_wei
    step = f"send {from_units(max(0, wanted_wei - chain.balance_wei), 18):f} ETH to {wallet.address}"
    if orders < ORDERS_AT_LEAST:
        return Finding("gas", "fail", detail, step)
    return Finding("gas", "ok", detail) if orders >= ORDERS_WANTED else Finding("gas", "warn", detail, step)


def _usdc(trader: Trader, chain: OnChain) -> Finding:
    if not chain.usdc:
        return Finding("usdc", "fail", "no USDC", f"the trader funds {trader.address} with USDC")
    return Finding("usdc", "ok", f"{chain.usdc:f} USDC at the trader's address")


def _allowance(trader: Trader, chain: OnChain) -> Finding:
    storage = settings.ENVIRONMENT.venue_storage_address
    approve = f"{trader.address} calls approve({storage}, AMOUNT) on the USDC contract with a finite amount"
    if not chain.allowance_units:
        return Finding("allowance", "fail", "the venue may not take any USDC", approve)
    if chain.allowance_units > UNLIMITED_UNITS:
        detail = "unlimited: the allowance is the bound of the loss should the delegate's key leak"
        return Finding("allowance", "warn", detail, approve)
    allowed_usdc = from_units(chain.allowance_units, USDC_DIGITS)
    return Finding("allowance", "ok", f"{allowed_usdc:f} USDC may be taken")


def _delegation(wallet: Wallet, chain: OnChain) -> Finding:
    trading = settings.ENVIRONMENT.venue_trading_address
    delegate = f"the trader calls setDelegate({wallet.address}, EXPIRY) on {trading}, EXPIRY within 90 days"
    if chain.delegate.lower() != wallet.address.lower():
        return Finding("delegation", "fail", f"the trader's delegate is {chain.delegate}", delegate)
    days = chain.expires_in_s // DAY_S
    if chain.expires_in_s <= 0:
        return Finding("delegation", "fail", f"ended {-days} days ago", delegate)
    if chain.expires_in_s < EXPIRES_SOON_S:
        return Finding("delegation", "warn", f"ends in {days} days", delegate)
    if chain.expires_in_s > DELEGATION_AT_MOST_S:
        return Finding("delegation", "warn", f"lasts {days} days, longer than the 90 that are wise", delegate)
    return Finding("delegation", "ok", f"lasts another {days} days")
