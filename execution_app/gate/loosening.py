"""The one door through which anything becomes looser: resuming, LIVE, a higher cap, a lifted ban."""

from execution_app.errors import Refused
from execution_app.gate import second_factor

LEAST_REASON = 8  # characters


def permit(*, by: str, reason: str, code: str) -> None:
    """Let `by` loosen something. Raises Refused without a reason of some length or without the second factor."""
    if len(reason.strip()) < LEAST_REASON:
        raise Refused(f"loosening needs a reason of at least {LEAST_REASON} characters")
    second_factor.verify(by, code)
