"""The road of an order that somebody taps in Telegram: whoever got no answer taps again."""

from execution_app.states import Action
from ops.bot import deciding
from ops.bot.models import Role, TelegramConfirmation, TelegramUser
from tests.crash.bench import Bench
from tests.crash.scenario import FILLED, Scenario

TOKEN = "one-tap-of-a-person"
MESSAGE = 7


def _quote(bench: Bench) -> None:
    """Asked for and shown; the tap is what a process dies on."""
    asked = {
        "action": Action.OPEN.value,
        "symbol": "BTC-USD",
        "is_long": True,
        "collateral_usdc": "5",
        "leverage_x": "2",
        "slippage_pct": "0.5",
        "take_profit": None,
        "stop_loss": None,
        "price": "1000000",  # dear enough that no price of now is worse
    }
    TelegramConfirmation.objects.create(
        token=TOKEN,
        tg_user_id=bench.rig.trader.tg_user_id,
        message_id=MESSAGE,
        asked=asked,
        expires_at="2999-01-01T00:00:00Z",
    )


def _tap(bench: Bench) -> None:
    bench.look()
    person = TelegramUser(tg_user_id=bench.rig.trader.tg_user_id, role=Role.TRADER.value)
    deciding.confirm(person, TOKEN, MESSAGE)


def _walk(bench: Bench) -> None:
    _tap(bench)
    bench.submit()
    bench.live_on()


ROADS = [
    Scenario(
        "tap in Telegram",
        _walk,
        _tap,
        {f"tg:{TOKEN}": FILLED},
        before=_quote,
        left=1,
        faults=("lost", "reset"),
    )
]
