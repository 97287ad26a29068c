"""What no process of the stack ever asks for, asked for by its own code: for `manage.py shell`, beside a running stack.

Where PROMETHEUS_MULTIPROC_DIR is the stack's, the refusals are counted among the stack's own.
"""

from dataclasses import replace

from django.conf import settings

from execution_app.errors import IllegalMove
from execution_app.models import TxIntent, Wallet
from execution_app.moves import move
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.node.signing.policy import Violation
from execution_app.node.signing.slots import Slot
from execution_app.states import IntentState

ELSEWHERE = "0x000000000000000000000000000000000000dEaD"


def illegal_move() -> None:
    """A settled intent back to the start."""
    intent = TxIntent.objects.filter(settled_at__isnull=False).latest("id")
    try:
        move(intent, IntentState.PENDING, why="nobody may", by="test")
    except IllegalMove:
        return
    raise AssertionError("the move was not refused")


def foreign_signature() -> None:
    """A transfer to somebody, at the wallet's next nonce."""
    wallet = Wallet.objects.get()
    environment = settings.ENVIRONMENT
    ours = Slot(
        environment.chain_id,
        wallet.address,
        wallet.next_nonce,
        environment.venue_trading_address,
        0,
        100_000,
        b"",
    )
    try:
        signers.permit(replace(ours, to=ELSEWHERE), Fee(10**9, 10**9))
    except Violation:
        return
    raise AssertionError("the signature was not refused")
