"""The one door through which anything becomes looser: resuming, LIVE, a higher cap, a lifted ban."""

from execution_app.errors import Refused

LEAST_REASON = 8  # characters


def permit(*, by: str, reason: str, code: str) -> None:  # noqa: ARG001  (the second factor is not asked yet)
    """Let `by` loosen something. Raises Refused without a reason of some length."""
    if len(reason.strip()) < LEAST_REASON:
        raise Refused(f"loosening needs a reason of at least {LEAST_REASON} characters")
