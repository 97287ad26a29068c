"""Every command as people type it, against the real process: what it answers, and what it says to wrong input."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from execution_app.gate import control
from execution_app.models import AuditEntry, Cap, Position, Price, TxIntent
from execution_app.states import Action, Origin, Reason, RestrictionKind
from ops.bot.counter import COMMANDS
from ops.bot.models import TelegramUser
from signals_app.models import Signal
from tests.ops.bot.chat import Chat
from tests.ops.bot.conftest import OPERATOR, TRADER, VIEWER
from tests.ops.bot.enrolled import Enrolled
from tests.rig import Rig

OTHER = 777
VIEWERS = [name for name, command in COMMANDS.items() if command.role == "viewer"]


def priced(symbol: str, price: str) -> None:
    now = datetime.now(UTC)
    moments = dict.fromkeys(("published_at", "head_at", "seen_at", "first_seen_at"), now)
    Price.objects.update_or_create(symbol=symbol, defaults={"price": Decimal(price), **moments})


@pytest.mark.parametrize("name", VIEWERS)
def test_every_look_is_answered_with_nothing_there(chat: Chat, name: str) -> None:
    said = chat.ask(VIEWER, f"/{name}")
    assert "went wrong" not in said.text
    assert "does not answer" not in said.text
    assert AuditEntry.objects.count() == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/START@vanta_test_bot", "You are a viewer here"),
        ("/help", "/price SYMBOL"),
        ("hello", "I do not know that"),
        ("/trade everything", "I do not know that"),
        ("/", "I do not know that"),
        ("/price", "Usage: /price BTC-USD"),
        ("/price BTC-USD ETH-USD", "Usage: /price BTC-USD"),
        ("/price <b>&nonsense</b>", "No price of <B>&NONSENSE</B>-USD"),
        ("/price doge", "No price of DOGE-USD"),
        ("/why", "Usage: /why ID"),
        ("/why sig:nobody:1", "I find no order sig:nobody:1"),
        ("/version", "Vanta 0.1.0 on rehearsal"),
        ("/markets", "BTC-USD: no price was seen yet"),
        ("/positions", "No open positions."),
        ("/orders", "Nothing is under way."),
        ("/history", "Nothing has ended yet."),
        ("/signals", "No signals yet."),
        ("/pnl", "LIVE: 0.00 USDC in 0 close(s)"),
        ("/daily", "Nothing was realised."),
        ("/weekly", "Nothing was realised."),
        ("/monthly", "Nothing was realised."),
        ("/performance", "LIVE: no close yet"),
        ("/risk", "LIVE: 0 open, at stake 0.00 USDC notional"),
        ("/logs", "Nothing was written down yet."),
        ("/export", "There is no fill yet."),
        ("/wallet", "Only a trader may do that"),
        ("/flatten yes please do", "Only an operator may do that"),
    ],
)
def test_what_is_said(chat: Chat, text: str, words: str) -> None:
    assert words in chat.ask(VIEWER, text).text


def test_the_list_is_the_persons_own(chat: Chat) -> None:
    assert "/stop" not in chat.ask(VIEWER, "/help").text
    assert "/stop" in chat.ask(OPERATOR, "/help").text
    (call, *_) = chat.telegram.called("setMyCommands")
    assert call.code == 200


def test_a_photo_or_a_sticker_is_no_command(chat: Chat) -> None:
    assert "I do not know that" in chat.ask(VIEWER, "").text


def test_buttons_reply_in_place(chat: Chat) -> None:
    menu = chat.ask(OPERATOR, "/start")
    assert menu.buttons["Positions"] == "positions"
    chat.press(OPERATOR, menu, "positions")
    chat.settle(OPERATOR)
    assert menu.text.startswith("No open positions.")
    # The same again changes nothing, which Telegram refuses and nobody has to hear of.
    chat.press(OPERATOR, menu, "positions")
    chat.settle(OPERATOR)
    assert (menu.text, menu.edits) == ("No open positions.", 1)
    chat.press(OPERATOR, menu, menu.buttons["Wallet"])
    chat.settle(OPERATOR)
    assert "There is no trader of your Telegram id" in menu.text


def test_a_trade_is_told_from_signal_to_worth(chat: Chat, rig: Rig) -> None:
    priced("BTC-USD", "101000")
    opened = rig.intent(Action.OPEN)
    rig.run()
    assert TxIntent.objects.get(pk=opened.pk).state == "filled"
    told = chat.ask(OPERATOR, "/positions").text
    assert "LIVE BTC-USD LONG 5.00 USDC at 2\N{MULTIPLICATION SIGN} from " in told
    assert ", now +" in told
    assert "USDC, test" in told, "an operator is told whose it is"
    assert "USDC, test" not in chat.ask(TRADER, "/positions").text
    assert opened.intent_key in chat.ask(OPERATOR, "/history").text
    why = chat.ask(TRADER, f"/why {opened.intent_key}").text
    assert "Filled LIVE at" in why
    assert "sent, waits for a block" in why
    assert "BTC-USD: 101,000 USD" in chat.ask(VIEWER, "/markets").text
    assert "1 LIVE, 0 DRY" in chat.ask(OPERATOR, "/status").text
    rig.intent(Action.CLOSE)
    rig.run()
    assert "No open positions." in chat.ask(OPERATOR, "/positions").text
    said = chat.ask(TRADER, "/pnl").text
    assert "USDC in 1 close(s)" in said
    assert "Funding: not modelled in DRY, the venue publishes no rule" in said


def test_a_trader_sees_nothing_of_others(chat: Chat) -> None:
    for user, signal_id in ((TRADER, "mine"), (999, "theirs")):
        Signal.objects.create(
            source="drill", signal_id=signal_id, tg_user_id=user, symbol="BTC-USD", side="CLOSE", slippage_pct=1,
            body_sha256="0" * 64,
        )  # fmt: skip
    assert "theirs" in chat.ask(VIEWER, "/signals").text
    mine = chat.ask(TRADER, "/signals").text
    assert "sig:drill:mine" in mine
    assert "theirs" not in mine


def test_caps_are_told_with_what_is_used(chat: Chat) -> None:
    Cap.objects.create(
        name="exposure_usdc", scope="trader", scope_value="123", value=50, set_by="x", reason="x"
    )
    told = chat.ask(VIEWER, "/caps").text
    assert "notional per order (MAX_NOTIONAL_USDC): 1,000 USDC" in told
    assert "exposure for trader 123: 50 USDC, used 0 USDC DRY and 0 USDC LIVE" in told
    assert "BTC-USD, ETH-USD, SOL-USD" in told


def test_what_comes_from_outside_is_escaped_and_long_answers_are_cut(chat: Chat) -> None:
    for number in range(10):
        Signal.objects.create(
            source="drill", signal_id=f"s{number}", tg_user_id=TRADER, symbol="<i>&amp", side="CLOSE", slippage_pct=1,
            body_sha256="0" * 64, decision="rejected", reasons=[Reason.SYMBOL_UNKNOWN.value, "<script>" * 200],
        )  # fmt: skip
    told = chat.ask(VIEWER, "/signals").text
    assert "<i>&amp CLOSE" in told
    assert len(told) <= 4_096


def test_results_are_told_by_day_week_and_month_and_given_as_a_file(chat: Chat, rig: Rig) -> None:
    opened = rig.intent(Action.OPEN)
    rig.run()
    risk = chat.ask(TRADER, "/risk").text
    assert "LIVE: 1 open, at stake 10.00 USDC notional" in risk
    assert "LIVE BTC-USD: " in risk
    rig.intent(Action.CLOSE)
    rig.run()
    now = datetime.now(UTC)
    for text, spelled in (("/daily", "%Y-%m-%d"), ("/weekly", "%G-W%V"), ("/monthly", "%Y-%m")):
        told = chat.ask(TRADER, text).text
        assert f"{now:{spelled}} LIVE: " in told
        assert "in 1 close(s), 0 won" in told
    assert "in 1 close(s), 0 won (0 %)" in chat.ask(TRADER, "/performance").text
    assert "LIVE: no close yet" not in chat.ask(VIEWER, "/performance").text
    logs = chat.ask(TRADER, "/logs").text
    assert "BTC-USD: filled" in logs
    said = chat.ask(TRADER, "/export")
    assert (said.kind, said.text) == ("document", "2 fill(s), the newest 10,000 at most.")
    rows = list(csv.DictReader(io.StringIO(said.content.decode())))
    assert [(row["action"], row["symbol"], row["mode"]) for row in rows] == [
        ("close", "BTC-USD", "LIVE"),
        ("open", "BTC-USD", "LIVE"),
    ]
    assert rows[1]["intent_key"] == opened.intent_key
    assert Decimal(rows[1]["leverage_x"]) == 2
    TelegramUser.objects.create(tg_user_id=OTHER, role="trader", allowed_by="test")
    assert "no fill yet" in chat.ask(OTHER, "/export").text
    assert "no close yet" in chat.ask(OTHER, "/performance").text


def test_operators_see_people_the_audit_log_and_what_differs(chat: Chat, rig: Rig) -> None:
    told = chat.ask(OPERATOR, "/users").text
    assert f"{VIEWER} viewer" in told
    chat.ask(OPERATOR, "/reduceonly too much at once")
    logs = chat.ask(OPERATOR, "/logs").text
    assert "restriction set Reduce-only (Telegram): too much" in logs
    assert "too much at once" in logs
    assert "Nothing was written" in chat.ask(TRADER, "/logs").text
    control.lift(RestrictionKind.REDUCE_ONLY, Origin.TELEGRAM, by="test", reason="test")
    assert "Book and venue agree" in chat.ask(OPERATOR, "/reconcile").text
    rig.intent(Action.OPEN)
    rig.run()
    Position.objects.update(leverage_x=3)
    assert "is not what the venue holds" in chat.ask(OPERATOR, "/reconcile").text


def test_flatten_is_asked_twice_and_sets_reduce_only_first(chat: Chat, rig: Rig) -> None:
    rig.intent(Action.OPEN)
    rig.run()
    assert "(1 now)" in chat.ask(OPERATOR, "/flatten").text
    for text in ("/flatten yes", "/flatten yes  ", "/flatten please do"):
        assert "To do it write" in chat.ask(OPERATOR, text).text
    assert control.active() == []
    ann = Enrolled(OPERATOR)
    assert "yes CODE REASON" in chat.ask(OPERATOR, "/flatten").text
    assert "the code is wrong" in chat.ask(OPERATOR, "/flatten yes 000000 the market burns").text
    assert control.active() == []
    ann.device.refresh_from_db()
    ann.device.throttle_reset()
    chat.telegram.writes(OPERATOR, f"/flatten yes {ann.code()} the market burns")
    chat.bot.wait_for(lambda: TxIntent.objects.filter(action="close").exists())
    assert [(row.kind, row.origin) for row in control.active()] == [("reduce_only", "telegram")]
    rig.run()
    chat.bot.wait_for(lambda: any("All live positions are closed" in one.text for one in chat.said(OPERATOR)))
    assert TxIntent.objects.filter(action="close").count() == 1
    begun = AuditEntry.objects.get(action="flatten_begun")
    assert (begun.actor, begun.origin) == ("ann", "telegram")
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="test", reason="test")
    assert "A stop holds" in chat.ask(OPERATOR, f"/flatten yes {ann.code()} once more").text
