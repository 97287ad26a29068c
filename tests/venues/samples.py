"""Messages of each kind at fixed values, and the file that holds what the venue's SDK makes of them.

`python -m tests.venues.samples` writes the file anew from the installed SDK.
"""

import json
from decimal import Decimal
from pathlib import Path

from execution_app.venues import messages
from execution_app.venues.messages import (
    CloseMessage,
    DelegateMessage,
    IncreaseMessage,
    LevelsMessage,
    Message,
    OpenMessage,
)
from execution_app.venues.onchain import CloseOrder, OpenOrder
from execution_app.venues.orders import IncreaseOrder
from execution_app.venues.typed_data import Domain

VECTORS = Path(__file__).parent / "vectors" / "messages.json"
ROUTER = "0x44914408af82bC9983bbb330e3578E1105e11d4e"
DOMAINS = {"base": Domain(8453, ROUTER), "rehearsal": Domain(31337, ROUTER)}
TRADER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
DELEGATE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
DEADLINE_MS = 1_795_000_000_123
HIGHEST = 2**256 - 1
LONG = OpenOrder(TRADER, 1, True, Decimal(5), Decimal(2), Decimal("100000.5"), Decimal("0.5"))
SHORT = OpenOrder(
    trader=TRADER,
    pair_index=5,
    is_long=False,
    collateral_usdc=Decimal("1234.567891"),
    leverage_x=Decimal("74.9999"),
    wanted_price=Decimal("0.1234567891"),
    slippage_pct=Decimal(80),
    take_profit=Decimal("0.0000000001"),
    stop_loss=Decimal("0.2"),
)

OPENING = OpenMessage(LONG, DEADLINE_MS, 1)
CLOSING = CloseMessage(
    CloseOrder(TRADER, 1, 3, Decimal("2.5"), Decimal(100_000)), 1_790_000_000, DEADLINE_MS, 2**200 + 7
)
ADDED = IncreaseOrder(
    TRADER, 1, 3, Decimal("2.5"), Decimal("2.3333333333"), Decimal("100000.5"), Decimal("0.5")
)
INCREASING = IncreaseMessage(ADDED, DEADLINE_MS, 2**255)
CHANGING = LevelsMessage(TRADER, 1, 3, Decimal(120_000), Decimal("90000.0000000001"), DEADLINE_MS, 0)
DELEGATION = DelegateMessage(TRADER, DELEGATE, 1_800_000_000, DEADLINE_MS, 9)
SAMPLES: dict[str, Message] = {
    "open": OPENING,
    "open of a short with levels": OpenMessage(SHORT, DEADLINE_MS, HIGHEST),
    "close": CLOSING,
    "increase": INCREASING,
    "levels": CHANGING,
    "no levels": LevelsMessage(TRADER, 59, 0, None, None, DEADLINE_MS, 42),
    "delegate": DELEGATION,
}


def ours(domain: Domain, message: Message) -> dict[str, str]:
    return {
        "digest": "0x" + messages.digest(domain, message).hex(),
        "encoded": "0x" + messages.encode(message).hex(),
    }


def main() -> None:
    import veranta_sdk

    from tests.venues import sdk

    told = {
        place: {name: sdk.told(domain, message) for name, message in SAMPLES.items()}
        for place, domain in DOMAINS.items()
    }
    text = json.dumps({"made_by": f"veranta-sdk {veranta_sdk.__version__}", **told}, indent=1)
    VECTORS.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
