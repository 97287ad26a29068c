"""What an order costs: all of it in a quote before, and by position and UTC day after.

USDC and wei stay apart: nobody here knows the price at which somebody bought the ETH.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal

from django.conf import settings

from execution_app.book import shadow, simulation
from execution_app.book.prices import Market
from execution_app.models import Fill, Position, TxIntent, TxReceipt
from execution_app.states import GROWING, Action, Mode, Road, SendKind
from execution_app.venues import costs

RECEIPTS = 20  # of which the gas of the next one is told
NOTHING = Decimal(0)


@dataclass(frozen=True)
class Quote:
    """Of an open, and of closing it again while the oracle's price stands still. Prices in USD.

    `spread_usdc` is what both fills lie beside the oracle's price. `lost_usdc` is what is
    gone after both: the fees and the spread, as the venue's own arithmetic rounds them.
    `gas_wei` is of both transactions as the last ones used it, None before there was one; by
    the gateway's road there are none of ours. `costs_known` is False where the venue publishes none.
    `funding` says that no figure here holds any. A simulation fills at the price of `keeper_delay_ms` later.
    """

    oracle_price: Decimal
    price: Decimal
    open_fee_usdc: Decimal
    close_fee_usdc: Decimal
    spread_usdc: Decimal
    lost_usdc: Decimal
    execution_fee_wei: int
    gas_wei: int | None
    costs_known: bool
    refusal: str
    keeper_delay_ms: int
    funding: str = costs.FUNDING


@dataclass(frozen=True)
class Day:
    """What one position came to on one UTC day. `net_usdc` is after everything in USDC, wei are apart.

    `kept_usdc` is what the venue kept of the day's orders: fees, and in LIVE funding where it charges any, which no
    event of it tells apart; in DRY there is none in it (`costs.FUNDING`). `realised_usdc` is what closes paid less the collateral that they took out.
    """

    position: int
    symbol: str
    mode: Mode
    day: date
    opened_usdc: Decimal
    closed_usdc: Decimal
    realised_usdc: Decimal
    open_fee_usdc: Decimal
    kept_usdc: Decimal
    execution_fee_wei: int
    gas_wei: int

    @property
    def net_usdc(self) -> Decimal:
        return self.realised_usdc - self.open_fee_usdc


def quote(intent: TxIntent, market: Market, road: Road | None) -> Quote:
    """Of an open that is stored or not. The caller has asked for `market.problem`; `road` is None in our own book."""
    assert intent.collateral_usdc is not None
    assert intent.leverage_x is not None
    is_long = bool(intent.is_long)
    known = market.costs or simulation.NO_COSTS
    opened = simulation.estimate(intent, market)
    held_usdc = intent.collateral_usdc - opened.fee_usdc
    back = costs.fill_price(opened.oracle_price, known, buys=not is_long)
    paid = costs.proceeds(held_usdc, intent.leverage_x, opened.price, back, known, is_long=is_long)
    lost_usdc = intent.collateral_usdc - paid.paid_usdc
    ours = road is Road.ONCHAIN
    return Quote(
        oracle_price=opened.oracle_price,
        price=opened.price,
        open_fee_usdc=opened.fee_usdc,
        close_fee_usdc=paid.fee_usdc,
        spread_usdc=lost_usdc - opened.fee_usdc - paid.fee_usdc,
        lost_usdc=lost_usdc,
        execution_fee_wei=2 * market.execution_fee_wei if ours else 0,
        gas_wei=_usual_gas_wei(market) if ours else 0,
        costs_known=market.costs is not None,
        refusal=opened.refusal,
        keeper_delay_ms=settings.ENVIRONMENT.dry_keeper_delay_ms,
    )


def _usual_gas_wei(market: Market) -> int | None:
    total = 0
    for action in (Action.OPEN, Action.CLOSE):
        last = TxReceipt.objects.filter(intent__action=action, status=1, canonical=True)
        used = list(last.order_by("-id").values_list("gas_used", flat=True)[:RECEIPTS])
        if not used:
            return None
        total += (
            sum(used) // len(used) * (market.gas.base_fee_wei + market.gas.tip_wei) + market.gas.l1_fee_wei
        )
    return total


def by_day(positions: Iterable[Position]) -> list[Day]:
    """One line a position and UTC day on which something of it was filled, in that order."""
    found: list[Day] = []
    for position in positions:
        days: dict[date, list[Fill]] = {}
        for fill in position.fills.select_related("intent", "position").order_by("filled_at", "id"):
            days.setdefault(fill.filled_at.astimezone(UTC).date(), []).append(fill)
        found += [_day(position, day, fills) for day, fills in days.items()]
    return found


def _day(position: Position, day: date, fills: Sequence[Fill]) -> Day:
    opens = [fill for fill in fills if fill.action in GROWING]
    closes = [fill for fill in fills if fill.action == Action.CLOSE]
    sent = TxReceipt.objects.filter(intent__in=[fill.intent_id for fill in fills], canonical=True)
    gas_wei = sum(int(row.gas_used * row.effective_gas_price_wei + row.l1_fee_wei) for row in sent)
    paid = sent.filter(status=1).exclude(send__kind=SendKind.CANCEL)
    return Day(
        position=position.pk,
        symbol=position.symbol,
        mode=Mode(position.mode),
        day=day,
        opened_usdc=sum((fill.collateral_usdc for fill in opens), NOTHING),
        closed_usdc=sum((fill.collateral_usdc for fill in closes), NOTHING),
        realised_usdc=sum(
            ((fill.sent_to_trader_usdc or NOTHING) - fill.collateral_usdc for fill in closes), NOTHING
        ),
        open_fee_usdc=sum((kept_usdc(fill) for fill in opens), NOTHING),
        kept_usdc=sum((kept_usdc(fill) for fill in fills), NOTHING),
        execution_fee_wei=sum(int(row.intent.value_wei or 0) for row in paid.select_related("intent")),
        gas_wei=gas_wei,
    )


def kept_usdc(fill: Fill) -> Decimal:
    """What was kept of a fill: told by the simulation, of LIVE ones the difference between worth and payout."""
    return shadow.fee_usdc(fill) if fill.fee_usdc is None else fill.fee_usdc
