"""Until when each wallet may trade for its trader, kept as a column so that anybody can warn before it ends.

For watching only. Whoever takes a nonce or offers old bytes looks for itself, in `engine.permissions`.
"""

from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.db.models import Q

from execution_app.models import Wallet
from execution_app.node import rpc
from execution_app.venues import onchain

log = structlog.get_logger(__name__)
BATCH = 200
NOT_OURS = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)  # the venue's uint256 may name a year that no calendar knows


def keep() -> None:
    """Read the delegation of every enabled trader's wallet, BATCH at once, and store what changed.

    A trader whose delegate is somebody else, or nobody, has let ours trade until
    1970. Raises RpcFault when no node answers; a view that fails leaves its row as it was.
    """
    environment = settings.ENVIRONMENT
    if not environment.venue_trading_address:
        return
    wallets = Wallet.objects.filter(chain_id=environment.chain_id, trader__enabled=True)
    several = list(wallets.select_related("trader").order_by("id"))
    for begin in range(0, len(several), BATCH):
        _keep(several[begin : begin + BATCH], environment.venue_trading_address)


def _keep(wallets: list[Wallet], trading_address: str) -> None:
    answers = rpc.read_batch(
        [rpc.eth_call(trading_address, onchain.call_delegate(wallet.trader.address)) for wallet in wallets]
    )
    for wallet, answer in zip(wallets, answers, strict=True):
        until = _until(wallet, answer)
        if until is not None:
            changed = ~Q(delegated_until=until) | Q(delegated_until=None)
            Wallet.objects.filter(changed, pk=wallet.pk).update(delegated_until=until)


def _until(wallet: Wallet, answer: object) -> datetime | None:
    """None where the node did not say."""
    if isinstance(answer, rpc.NodeError) or answer is None:
        log.warning("the delegation was not read", wallet=wallet.address, problem=str(answer))
        return None
    try:
        delegate, expiry_s = onchain.read_delegate(bytes.fromhex(str(answer).removeprefix("0x")))
    except ValueError as error:
        log.warning("the delegation was not read", wallet=wallet.address, problem=str(error))
        return None
    if delegate.lower() != wallet.address.lower():
        return NOT_OURS
    return min(datetime.fromtimestamp(min(expiry_s, LATEST.timestamp()), UTC), LATEST)
