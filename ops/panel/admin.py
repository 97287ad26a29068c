"""Django looks for admin pages here; each module registers its own."""

from ops.panel import accounts, holdings, letters, machine, risk, road

__all__ = ["accounts", "holdings", "letters", "machine", "risk", "road"]
