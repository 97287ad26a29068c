"""Do chain and database describe the same past? Nobody trades before that is answered."""

from functools import lru_cache
from typing import Any, NoReturn

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Disagreement
from execution_app.models import Chain, Wallet
from execution_app.node import identity, rpc
from execution_app.venues import onchain

log = structlog.get_logger(__name__)
# By hand: it is asked for twice in every pass.
_WITH_SETTLED = """SELECT wallets.*, (
    SELECT nonce FROM tx_intents
    WHERE wallet_id = wallets.id AND settled_at IS NOT NULL AND nonce IS NOT NULL ORDER BY nonce DESC LIMIT 1
) AS settled_nonce FROM wallets"""


def expect_chain() -> Chain | None:
    """Let endpoints of this process be held against the chain that this database trades on, if it does yet."""
    chain = Chain.objects.filter(pk=settings.ENVIRONMENT.chain_id).first()
    identity.expect_genesis(chain.genesis_hash if chain is not None else "")
    return chain


def check_identity(chain_id: int, genesis_hash: str, known: Chain | None = None) -> None:
    """Check that the node is on the chain this database trades on. Raises Disagreement.

    `known` is that chain's row, where this pass has read it: what is held against the node never changes in it.
    """
    environment = settings.ENVIRONMENT
    if chain_id != environment.chain_id:
        halt(f"the node is on chain {chain_id}, CHAIN_ID is {environment.chain_id}")
    chain = known or _adopted(chain_id, genesis_hash)
    if chain.genesis_hash != genesis_hash:
        halt(
            f"the node's chain began with block {genesis_hash}, this database trades on {chain.genesis_hash}"
        )
    if chain.trading_address.lower() != environment.venue_trading_address.lower():
        halt(f"VENUE_TRADING_ADDRESS is not {chain.trading_address}, where this database's positions are")
    _check_venue(genesis_hash)


def _adopted(chain_id: int, genesis_hash: str) -> Chain:
    """The row of this chain; the first one that is seen becomes this database's."""
    known = Chain.objects.filter(pk=chain_id).first()
    if known is not None:
        return known
    found = {"genesis_hash": genesis_hash, "trading_address": settings.ENVIRONMENT.venue_trading_address}
    with transaction.atomic():
        chain, created = Chain.objects.get_or_create(pk=chain_id, defaults=found)
        if created:
            log.info("chain adopted", chain=chain_id, genesis=genesis_hash)
            audit.record(AuditAction.CHAIN_ADOPTED, f"chain {chain_id}", after=found)
    return chain


@lru_cache(maxsize=4)
def _check_venue(genesis_hash: str) -> None:
    """Once per process and chain: the contracts are there and the pairs are what we call them."""
    environment = settings.ENVIRONMENT
    if rpc.read("eth_getCode", environment.venue_trading_address, "latest") in {"0x", None}:
        halt(f"there is no contract at VENUE_TRADING_ADDRESS {environment.venue_trading_address}")
    symbols = sorted(environment.symbols & onchain.PAIRS.keys())
    aggregator = environment.venue_price_aggregator_address
    names = rpc.read_views(
        [(aggregator, onchain.call_pair_name(onchain.PAIRS[symbol])) for symbol in symbols]
    )
    for symbol, raw in zip(symbols, names, strict=True):
        if onchain.read_pair_name(raw) != symbol:
            halt(f"the venue's pair {onchain.PAIRS[symbol]} is {onchain.read_pair_name(raw)}, not {symbol}")
    log.info("venue checked", genesis=genesis_hash, pairs=",".join(symbols))


def check_wallets(counts: dict[int, int]) -> None:
    """Compare the chain's count of each wallet with ours. `counts` was read before this is called.

    A count above next_nonce means that the key signed elsewhere or that this
    database is an old copy: that wallet halts until an operator adopts the
    chain's state. A count below what is settled means that the chain is an old
    copy or the node lies: nobody trades. Raises Disagreement for the latter.
    """
    for wallet in with_settled_nonces("wallets.id = ANY(%s)", [*counts]):
        count = counts[wallet.pk]
        if count > wallet.next_nonce and not wallet.halted_reason:
            reason = (
                f"the chain has {count} transactions of this wallet, this database signed {wallet.next_nonce}"
            )
            halt_wallet(wallet, reason)
        settled = wallet.settled_nonce
        if settled is not None and count <= settled:
            halt(
                f"the chain has {count} transactions of {wallet.address}, but nonce {settled} was final here"
            )


def with_settled_nonces(condition: str, value: object) -> list[Any]:
    """Wallets for which the condition holds, each with its `settled_nonce`: the highest whose end is final here, or None."""
    return list(Wallet.objects.raw(f"{_WITH_SETTLED} WHERE {condition}", [value]))


def halt_wallet(wallet: Wallet, reason: str) -> None:
    """Let nothing more be signed by this wallet until an operator decides; one that is halted stays as it is."""
    with transaction.atomic():
        halted = Wallet.objects.filter(pk=wallet.pk, halted_reason="").update(
            halted_reason=reason[:200], halted_at=Now()
        )
        if halted:
            audit.try_record(
                AuditAction.WALLET_HALTED,
                f"wallet {wallet.address}",
                reason=reason,
                before={"halted_reason": "", "next_nonce": wallet.next_nonce},
                after={"halted_reason": reason},
            )
    if halted:
        log.error("wallet halted", wallet=wallet.address, reason=reason)


def resume(chain_id: int) -> None:
    """Chain and database agree again: whatever halted trading is over."""
    with transaction.atomic():
        halted = Chain.objects.select_for_update().filter(pk=chain_id).exclude(halted_reason="").first()
        if halted is None:
            return
        Chain.objects.filter(pk=chain_id).update(halted_reason="")
        before = {"halted_reason": halted.halted_reason}
        audit.try_record(
            AuditAction.CHAIN_RESUMED, f"chain {chain_id}", before=before, after={"halted_reason": ""}
        )
    log.warning("chain and database agree again", chain=chain_id)


def halt_on_foreign_endpoints() -> None:
    """Raises Disagreement when every endpoint said that it is on another chain."""
    problems = [endpoint.identity.foreign for endpoint in rpc.endpoints()]
    if all(problems):
        halt("; ".join(dict.fromkeys(problems)))


def halt(reason: str) -> NoReturn:
    """Let nobody trade until chain and database were found to agree. Raises Disagreement."""
    words = reason[:400]
    with transaction.atomic():
        for chain in Chain.objects.select_for_update().exclude(halted_reason=words).order_by("pk"):
            Chain.objects.filter(pk=chain.pk).update(halted_reason=words)
            audit.try_record(
                AuditAction.CHAIN_HALTED,
                f"chain {chain.pk}",
                reason=reason,
                before={"halted_reason": chain.halted_reason},
                after={"halted_reason": words},
            )
            log.error("chain and database disagree; nobody trades", reason=reason)
    raise Disagreement(reason)
