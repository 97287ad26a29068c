"""One node hangs, or answers with half of what it knows: the others, or the next look, make up for it."""

import socket
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from execution_app.engine import heads
from execution_app.node import rpc
from tests import invariants
from tests.patience import hurry
from tests.proxy import Proxy
from tests.rig import Rig


def test_a_receipt_without_its_logs_is_read_again(
    rig: Rig, node: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = rig.intent()
    rig.submit()
    rig.mine()
    forward = node.forward

    def without_logs(body: Any) -> Any:
        answers = forward(body)
        for answer in answers if isinstance(answers, list) else [answers]:
            if isinstance(answer.get("result"), dict) and "transactionHash" in answer["result"]:
                answer["result"]["logs"] = []
        return answers

    monkeypatch.setattr(node, "forward", without_logs)
    rig.track()
    intent.refresh_from_db()
    assert intent.state == "mined"
    monkeypatch.setattr(node, "forward", forward)
    rig.track()
    rig.keep()
    rig.track()
    rig.mine(4)
    rig.track()
    intent.refresh_from_db()
    assert (intent.state, intent.settled_at is not None) == ("filled", True)
    invariants.check(node)


def connected(server: socket.socket) -> bool:
    """Whether somebody has come since it was asked last."""
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_node_that_hangs_is_waited_for_once(rig: Rig, node: Proxy, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = f"http://127.0.0.1:{silent.getsockname()[1]},{node.url}"
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"base_rpc_url": urls})
        rpc.endpoints.cache_clear()
        hurry(rpc.endpoints()[0])
        silent.settimeout(0)
        heads.follow()
        while connected(silent):
            pass
        heads.follow()
        assert not connected(silent), "it is not asked again so soon"
    rpc.endpoints.cache_clear()
