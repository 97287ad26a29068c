"""Roads of caps: today's loss, the orders of a minute, gas that is not paid yet, and what two wallets have together."""

from decimal import Decimal

from eth_account import Account

from execution_app.engine import reserve
from execution_app.gate import cap_rows
from execution_app.models import TxIntent, TxSend, Wallet
from execution_app.states import CapName, CapScope
from signals_app.models import SourceGrant
from tests.crash.bench import SOURCE, Bench
from tests.crash.roads_close import DONE
from tests.crash.roads_open import open_one, post_one
from tests.crash.scenario import FILLED, Scenario, one_of

OTHER_USER_ID = 124
TURN = "execution_app.engine.reserve:_take_turn:commit"


def _cap(name: CapName, value: Decimal) -> None:
    cap_rows.set_cap(name, CapScope.GLOBAL, "", value, by="crash", reason="crash")


def _loss(bench: Bench) -> None:
    """What was lost today keeps the next open out."""
    with bench.aside():
        bench.set_price(90_000)
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.live_on()
    _cap(CapName.DAILY_LOSS, Decimal("0.1"))
    bench.accept("more")
    bench.submit()


def _post_loss(bench: Bench) -> None:
    bench.post("two", "CLOSE")
    if TxIntent.objects.filter(intent_key__endswith=":two", state="filled").exists():
        _cap(CapName.DAILY_LOSS, Decimal("0.1"))
        bench.post("more")


def _minute(bench: Bench) -> None:
    """An order counts for its minute, also when nothing of it is left."""
    _cap(CapName.ORDERS_PER_MINUTE, Decimal(1))
    open_one(bench)
    bench.accept("two", "CLOSE")
    bench.submit()
    bench.live_on()
    bench.accept("more")
    bench.submit()


def _post_minute(bench: Bench) -> None:
    bench.post("one")
    bench.post("two", "CLOSE")


def _gas(bench: Bench) -> None:
    """What is signed may cost all that it says, before any node has it."""
    bench.accept()
    bench.look()
    reserve.reserve(bench.rig.wallet.pk)
    send = TxSend.objects.select_related("intent").get()
    cost_wei = send.intent.gas_limit * send.max_fee_wei + send.intent.value_wei + send.intent.l1_fee_wei
    _cap(CapName.GAS_PER_DAY, (cost_wei * 3 / 2).quantize(Decimal(1)))
    bench.accept("more")
    reserve.reserve(bench.rig.wallet.pk)
    bench.submit()
    bench.live_on()


def _two_wallets(bench: Bench) -> None:
    bench.rig.equip(Account.create(), OTHER_USER_ID)
    SourceGrant.objects.create(source=SOURCE, tg_user_id=OTHER_USER_ID)
    _cap(CapName.EXPOSURE, Decimal(15))


def _post_both(bench: Bench) -> None:
    bench.post("one")
    bench.post("other", tg_user_id=OTHER_USER_ID)


def _both_at_once(bench: Bench) -> None:
    """There is room for one of them. The second wallet asks when the first has its answer and is not committed."""
    _post_both(bench)
    bench.decide("one")
    bench.decide("other")
    first, second = Wallet.objects.order_by("pk").values_list("pk", flat=True)
    bench.meet(f"before {TURN}", bench.go_on, lambda: reserve.reserve(second))
    reserve.reserve(first)
    bench.await_helpers()
    bench.submit()
    bench.track()
    bench.live_on()
    bench.age()
    bench.sweep()


ROADS = [
    Scenario(
        "a loss meets its cap",
        _loss,
        _post_loss,
        DONE | {"two": FILLED, "more?": one_of("rejected:daily_loss_at_cap")},
        before=open_one,
        left=0,
        alone={"more": one_of("rejected:daily_loss_at_cap")},
    ),
    Scenario(
        "orders of a minute meet their cap",
        _minute,
        _post_minute,
        # Whoever recovers may take longer than a minute.
        DONE
        | {"two": FILLED | one_of("no_op"), "more?": FILLED | one_of("rejected:orders_per_minute_at_cap")},
        alone={"more": one_of("rejected:orders_per_minute_at_cap")},
    ),
    Scenario(
        "gas meets its cap",
        _gas,
        post_one,
        # Where the first is mined by then, less was spent than it might have been.
        DONE | {"more?": FILLED | one_of("rejected:gas_per_day_above_cap")},
        alone={"more": one_of("rejected:gas_per_day_above_cap")},
    ),
    Scenario(
        "two wallets meet a cap",
        _both_at_once,
        _post_both,
        dict.fromkeys(("one", "other"), FILLED | one_of("rejected:exposure_above_cap")),
        before=_two_wallets,
        left=1,
        alone={"one": FILLED, "other": one_of("rejected:exposure_above_cap")},
    ),
]
