"""As `screens.py`: what /resume says, where a phone may lift what it set; where it may not is among `operating`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_app.gate import control
from execution_app.states import Origin, RestrictionKind
from tests.browser import Browser
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.conftest import OPERATOR
from tests.ops.bot.enrolled import Enrolled
from tests.ops.bot.forks import Forks
from tests.ops.bot.phone import Phone
from tests.ops.bot.telegram import Telegram
from tests.ops.bot.trades.screens_trading import LANGUAGES, begun, forget_codes, shoot
from tests.rig import Rig


@pytest.fixture(scope="module")
def telegram() -> Iterator[Telegram]:
    with Telegram() as server:
        yield server


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram, forks: Forks, login: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bot]:
    folder: Path = tmp_path_factory.mktemp("bot")
    with Bot(telegram.base, folder / "bot.log", forks.begin, TELEGRAM_MAY_RESUME="true", **login) as running:
        yield running


@LANGUAGES
def test_resuming(chat: Chat, rig: Rig, window: Browser, language: str) -> None:
    phone = begun(chat, language, OPERATOR)
    for text in ("/resume", "/stop the price is wrong", "/resume", "/resume 123456 looked into it"):
        phone.ask(text)
    ann = Enrolled(OPERATOR)
    phone.ask("/resume 000000 looked into it")
    forget_codes(ann)
    phone.ask(f"/resume {ann.code()} short")
    control.impose(RestrictionKind.STOP, Origin.HTTP, by="bob", reason="the price is wrong")
    phone.ask(f"/resume {ann.code()} looked into it")
    control.lift(RestrictionKind.STOP, Origin.HTTP, by="bob", reason="over")
    shoot(phone, window, f"resuming-{language}")
    phone = Phone(chat, OPERATOR)
    forget_codes(ann)
    phone.ask("/stop once more")
    phone.ask(f"/resume {ann.code()} looked into it")
    forget_codes(ann)
    phone.ask(f"/resume {ann.code()} looked into it")
    phone.ask("/reduceonly too much at once")
    phone.ask("/mode")
    phone.ask("/reduceonly off")
    forget_codes(ann)
    phone.ask(f"/reduceonly off {ann.code()} looked into it")
    shoot(phone, window, f"resumed-{language}")
