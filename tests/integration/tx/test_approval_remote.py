"""A person's word for one exit, where its signature comes over a network."""

from pytest_django.fixtures import Settings

from execution_app.gate import watch
from tests import invariants
from tests.integration.tx.remote import signing_remotely
from tests.integration.tx.test_approval import approve, degraded, hold_close  # noqa: F401
from tests.proxy import Proxy
from tests.rig import Rig


def test_an_approved_close_is_signed_remotely_while_redis_says_nothing(
    degraded: Rig,  # noqa: F811
    node: Proxy,
    settings: Settings,
) -> None:
    with signing_remotely(degraded, settings):
        close = hold_close(degraded)
        approve(close.intent_key)
        for _ in range(3):
            degraded.finish()
        close.refresh_from_db()
        assert watch.view().mode == "DRY"
        assert (close.state, close.nonce) == ("filled", 2)
        assert close.sends.count() == 1
    assert len(invariants.open_trades(degraded.trader.address)) == 1
