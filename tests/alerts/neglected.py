"""A stack that was put into service as none should be, and then goes away altogether."""

import json
from contextlib import ExitStack

from eth_account import Account
from eth_account.signers.local import LocalAccount

from ops.rehearsal.gateway.faults import OK
from ops.rehearsal.gateway.server import Gateway
from tests.alerts.ground import Ground
from tests.e2e.stack import NO_FEED, wait_until
from tests.remote_signers import Web3SignerFake

# Ceilings below what was traded within the hour; and keys that another host has.
LOWERED = {"MAX_NOTIONAL_USDC": "15", "MAX_LEVERAGE": "3", "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD"}
USUAL = {
    "MAX_NOTIONAL_USDC": "1000",
    "MAX_LEVERAGE": "75",
    "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD,SOL-USD",
    "SIGNER_BACKEND": "keyfile",
    "WEB3SIGNER_URL": "",
    **NO_FEED,
}
OFF_PCT = 5.0  # MAX_PRICE_DEVIATION_PCT is 1
BUSY = 429


def play(ground: Ground) -> None:
    """From the first start to a healthy stack under watch; without it `plain` does the same."""
    stack, ledger = ground.stack, ground.ledger
    stack.start()
    ground.await_live()
    wide = ground.signal(symbol="SOL-USD", leverage_x=4)
    ground.await_state(wide, "filled")
    with ExitStack() as servers:
        signer = servers.enter_context(Web3SignerFake(keys=[_key(ground)]))
        # Not the stack's own, which is the keeper's: another scene has that hang.
        feed = servers.enter_context(Gateway(ground.node_url, ground.deployment))
        urls = {"VERANTA_FEED_URL": f"{feed.url}/feed", "VERANTA_DATA_API_URL": f"{feed.url}/data"}
        ground.restart(**LOWERED, **urls, SIGNER_BACKEND="web3signer", WEB3SIGNER_URL=signer.url)
        ground.await_live()
        ledger.injected("VantaBackupOld", "a stack of which no backup was ever made")
        ledger.injected("VantaBotSilent", "the bot's process was never started")
        ledger.injected("VantaRetentionOld", "a retention that ended well, its note set back by four days")
        ground.retain()
        ground.stack.sql(
            "UPDATE heartbeats SET at = at - interval '4 days' WHERE component = 'retention' RETURNING at"
        )
        ledger.injected("VantaNotionalBreach", "restart with a ceiling below a LIVE open of the last hour")
        ledger.injected("VantaLeverageBreach", "restart with a ceiling below a LIVE open of the last hour")
        ledger.injected("VantaSymbolBreach", "restart without the symbol of a LIVE open of the last hour")
        ground.watch()
        _feed_fails(ground, feed)
        signer.faults.away = True
        ledger.injected("VantaSignerFailing", "the remote signer breaks every connection; a LIVE open waits")
        waiting = ground.signal(max_lag_s=900)
        names = ("VantaBackupOld", "VantaBotSilent", "VantaRetentionOld", "VantaNotionalBreach")
        ground.await_told(
            *names, "VantaLeverageBreach", "VantaSymbolBreach", "VantaSignerFailing", within_s=150
        )
        ground.care()
        ground.await_over(150, but=("VantaNotionalBreach", "VantaLeverageBreach", "VantaSymbolBreach"))
    ledger.injected("VantaMetricsSilent", "the whole stack is stopped")
    super(type(stack), stack).stop()
    ground.await_told("VantaMetricsSilent")
    ground.restart(**USUAL)
    ground.await_live()
    ground.await_state(waiting, "filled")
    ground.await_over(120, but=("VantaSignerFailing",))


def _feed_fails(ground: Ground, feed: Gateway) -> None:
    """The venue's feed says another price, and then none; its catalogue says nothing, either."""
    ledger = ground.ledger
    ledger.injected("VantaPriceDeviates", f"one price of the venue's feed is off by {OFF_PCT:g} %")
    feed.faults.core_off_pct = OFF_PCT
    ground.await_told("VantaPriceDeviates")
    feed.faults.core_off_pct = 0.0
    ledger.injected("VantaPriceAlone", f"the venue's feed answers {BUSY}")
    feed.faults.feed_status = BUSY
    ground.await_told("VantaPriceAlone")
    feed.faults.feed_status = OK
    told = {"VantaPriceDeviates", "VantaPriceAlone"}
    wait_until(lambda: not told & ledger.open(), 90, "prices agree again, and people were told so")


def plain(ground: Ground) -> None:
    """A healthy stack under watch."""
    ground.stack.start()
    ground.care()
    ground.await_live()
    ground.watch()


def _key(ground: Ground) -> LocalAccount:
    folder = ground.stack.folder
    (path,) = (folder / "keys").glob("0x*.json")
    password = json.loads((folder / "secrets.json").read_text())["SIGNER_KEY_PASSWORD"]
    key: LocalAccount = Account.from_key(Account.decrypt(json.loads(path.read_text()), password))
    return key
