"""What a slot's next transaction says, and its signature: at once from a local key, asked for from a remote signer."""

from collections.abc import Sequence

from django.db.models.functions import Now

from execution_app.models import SignRequest, TxIntent, TxSend
from execution_app.models.arrays import rows_of
from execution_app.node import signers
from execution_app.node.fees import Fee
from execution_app.states import SendKind


def obtain(intent: TxIntent, attempt: int, kind: SendKind, fee: Fee, *, leaves: bool) -> TxSend | None:
    """The stored send of a local key, or None where a remote signer was asked for it; one request a slot at most.

    Runs in the caller's transaction, which holds the wallet. `leaves` says that
    the caller offers what is returned without asking the gate again. Raises
    Refused and NonceUsedError.
    """
    slot = slot_of(intent, kind)
    if signers.is_remote():
        ask(intent, attempt, kind, fee)
        return None
    return store(intent, attempt, kind, fee, signers.sign(slot, fee), leaves=leaves)


def ask(intent: TxIntent, attempt: int, kind: SendKind, fee: Fee) -> None:
    """Leave a request for the remote signer; one that is there already only turns into a cancel.

    Raises Refused where the policy would not sign it, NonceUsedError where the journal would not.
    """
    slot = slot_of(intent, kind)
    signers.permit(slot, fee)
    signers.check_nonce(slot)
    request, _ = SignRequest.objects.get_or_create(
        intent=intent,
        defaults={
            "attempt": attempt,
            "kind": kind.value,
            "max_fee_wei": fee.max_fee_wei,
            "tip_wei": fee.tip_wei,
        },
    )
    if kind is SendKind.CANCEL and request.kind != SendKind.CANCEL:
        # Who signs just now signs the other one, and finds its lease gone.
        SignRequest.objects.filter(pk=request.pk).update(
            kind=kind.value,
            max_fee_wei=fee.max_fee_wei,
            tip_wei=fee.tip_wei,
            leased_at=None,
            lease=None,
            next_try_at=None,
        )


def slot_of(intent: TxIntent, kind: SendKind) -> signers.Slot:
    """The transaction of an intent that owns its nonce, but for the fee."""
    assert intent.wallet is not None
    assert intent.nonce is not None
    cancels = kind is SendKind.CANCEL
    sender = intent.wallet.address
    return signers.Slot(
        chain_id=intent.wallet.chain_id,
        sender=sender,
        nonce=intent.nonce,
        to=sender if cancels else intent.to_address,
        value_wei=0 if cancels else int(intent.value_wei or 0),
        gas_limit=signers.CANCEL_GAS if cancels else int(intent.gas_limit or 0),
        data=b"" if cancels else bytes(intent.calldata or b""),
        trader=intent.trader.address if intent.trader is not None else "",
        order=signers.order_of(
            intent.intent_key,
            intent.to_address,
            int(intent.value_wei or 0),
            int(intent.gas_limit or 0),
            bytes(intent.calldata or b""),
        ),
    )


def store(
    intent: TxIntent, attempt: int, kind: SendKind, fee: Fee, signed: signers.Signed, *, leaves: bool
) -> TxSend:
    return TxSend.objects.create(
        intent=intent,
        attempt=attempt,
        kind=kind,
        tx_hash=signed.tx_hash,
        raw=signed.raw,
        max_fee_wei=fee.max_fee_wei,
        tip_wei=fee.tip_wei,
        # What replaces bytes that have left is itself on its way as soon as it is stored.
        leased_at=Now() if leaves else None,
    )


def store_first(signed: Sequence[tuple[TxIntent, Fee, signers.Signed]]) -> None:
    """The first sends of several slots, in one statement; each waits for the gate before it leaves."""
    rows_of(TxSend).bulk_create(
        TxSend(
            intent=intent,
            attempt=0,
            kind=SendKind.EXEC,
            tx_hash=made.tx_hash,
            raw=made.raw,
            max_fee_wei=fee.max_fee_wei,
            tip_wei=fee.tip_wei,
        )
        for intent, fee, made in signed
    )
