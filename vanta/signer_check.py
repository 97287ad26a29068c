"""The question that every worker asks a remote signer once, before it begins."""

import structlog

from execution_app.errors import Refused, Retryable
from execution_app.node import signers
from vanta.environment import Misconfigured

log = structlog.get_logger(__name__)


def refuse_unfit_signer() -> None:
    """Raise Misconfigured when the signer has no key, or one that cannot sign for a wallet.

    A signer that is away keeps nobody from starting: slots then wait for it.
    """
    try:
        if not signers.is_remote():
            return
        found = signers.addresses()
    except Refused as refusal:
        raise Misconfigured(f"Vanta does not start; its signer is unfit:\n  - {refusal}") from None
    except Retryable as problem:
        log.warning("the signer was not asked at the start", problem=str(problem))
        return
    finally:
        signers.forget()
    if not found:
        raise Misconfigured("Vanta does not start; its signer has no key of any wallet")
    log.info("signer asked", wallets=len(found))
