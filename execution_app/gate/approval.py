"""One person's word for one close: it may go LIVE while nothing but Redis' health keeps the mode DRY.

It is read where the nonce is taken and again where the bytes are first offered, each time in the transaction
that does it, so whatever was set meanwhile counts. It opens nothing else: no open, no other intent, no stop, no
DRY of the environment or the database, no chain that was not compared, no halted wallet.
"""

from datetime import timedelta

from django.db.models import F, Q
from django.db.models.functions import Now

from execution_app.gate import watch
from execution_app.gate.modes import Kinds, Ruling
from execution_app.models import Chain, TxIntent
from execution_app.states import Action, Mode, RestrictionKind

# A trigger has the same number: whoever approves now means now, and not in an hour.
UNUSED_S = 300
UNUSED = timedelta(seconds=UNUSED_S)


def counts(intent: TxIntent, ruling: Ruling) -> bool:
    """Whether this intent was approved and may pass under this ruling; read from the row now.

    Until it has a nonce an approval runs out after UNUSED_S; with it, it is used, and is its slot's.
    """
    if not ruling.only_redis:
        return False
    approved = TxIntent.objects.filter(pk=intent.pk, action=Action.CLOSE, approved_at__isnull=False)
    until = F("approved_at") + UNUSED
    # A remote signer is asked behind the nonce, and only with the gate's leave.
    asked = Q(sign_request__attempt=0, sign_request__asked_at__lt=until)
    used = approved.filter(asked | Q(sends__attempt=0, sends__signed_at__lt=until))
    unused = approved.filter(nonce=None, approved_at__gt=Now() - UNUSED)
    return (used if intent.nonce is not None else unused).exists()


def obstacle(active: Kinds, chain_id: int) -> str:
    """What no approval passes, as this process knows it; blank where nothing is. `active` was read in this transaction."""
    limits = watch.limits()
    if limits.bound is Mode.DRY:
        return f"{limits.why}, and no approval passes that"
    if RestrictionKind.STOP in active:
        return "an emergency stop holds, and no approval passes it"
    if RestrictionKind.DRY in active:
        return "DRY was set by an operator, and no approval passes that"
    halted = Chain.objects.filter(pk=chain_id).values_list("halted_reason", flat=True).first()
    if halted is None:
        return "chain and database have not been compared yet"
    return halted
