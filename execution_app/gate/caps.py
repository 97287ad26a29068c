"""What an order may not exceed. The environment is the ceiling."""

from dataclasses import dataclass
from decimal import Decimal

from execution_app.states import Reason


@dataclass(frozen=True)
class Caps:
    """Limits of one opening order; None means that nothing was set, which permits nothing in LIVE."""

    max_notional_usdc: Decimal | None
    max_leverage_x: Decimal | None
    symbols: frozenset[str]


@dataclass(frozen=True)
class Breach:
    """One refused limit: its reason code, and a sentence with the cap and what was asked."""

    reason: Reason
    detail: str


def breaches(symbol: str, collateral_usdc: Decimal, leverage_x: Decimal, caps: Caps) -> list[Breach]:
    """Every limit an opening order breaks; closing orders are never asked."""
    found = []
    notional_usdc = collateral_usdc * leverage_x
    if symbol not in caps.symbols:
        allowed = ", ".join(sorted(caps.symbols)) or "none"
        found.append(
            Breach(Reason.SYMBOL_NOT_ALLOWED, f"symbol {symbol} is not in ALLOWED_SYMBOLS ({allowed})")
        )
    if caps.max_notional_usdc is None or notional_usdc > caps.max_notional_usdc:
        cap = "unset" if caps.max_notional_usdc is None else f"{caps.max_notional_usdc:f} USDC"
        found.append(
            Breach(
                Reason.NOTIONAL_ABOVE_CAP,
                f"notional {notional_usdc:f} USDC is above MAX_NOTIONAL_USDC ({cap})",
            )
        )
    if caps.max_leverage_x is None or leverage_x > caps.max_leverage_x:
        cap = "unset" if caps.max_leverage_x is None else f"{caps.max_leverage_x:f}"
        found.append(
            Breach(Reason.LEVERAGE_ABOVE_CAP, f"leverage {leverage_x:f} is above MAX_LEVERAGE ({cap})")
        )
    return found
