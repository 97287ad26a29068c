"""The bot behind a database that takes what it is asked and never answers, as behind a connection that is half-open."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from execution_app.gate import control
from execution_app.states import RestrictionKind
from tests.ops.bot.chat import Bot, Chat
from tests.ops.bot.conftest import OPERATOR
from tests.ops.bot.forks import Forks
from tests.ops.bot.telegram import Telegram
from tests.tcp_proxy import Fault, TcpProxy


@pytest.fixture(scope="module")
def way(login: dict[str, str]) -> Iterator[TcpProxy]:
    port = urlsplit(login["DATABASE_URL"]).port
    assert port is not None
    with TcpProxy(port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bot(
    telegram: Telegram,
    forks: Forks,
    login: dict[str, str],
    way: TcpProxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bot]:
    url = urlsplit(login["DATABASE_URL"])
    detour = url._replace(netloc=f"{url.netloc.rpartition('@')[0]}@127.0.0.1:{way.port}").geturl()
    log = tmp_path_factory.mktemp("bot") / Path("bot.log")
    with Bot(telegram.base, log, forks.begin, DATABASE_URL=detour) as running:
        yield running
        way.mend()


def test_a_stop_is_heard_and_set_though_no_connection_ever_speaks_again(chat: Chat, way: TcpProxy) -> None:
    chat.settle(OPERATOR)
    way.inject(Fault.HALF_OPEN)
    chat.telegram.writes(OPERATOR, "/stop")
    time.sleep(1)  # long enough for it to be asked of a connection that says nothing
    way.mend()
    chat.bot.wait_for(lambda: any(row.kind == RestrictionKind.STOP for row in control.active()))
    chat.settle(OPERATOR)
    assert RestrictionKind.STOP in {row.kind for row in control.active()}
