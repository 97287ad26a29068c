"""A stack that was put into service as none should be, and then goes away altogether."""

import json

from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.alerts.ground import Ground
from tests.remote_signers import Web3SignerFake

# Ceilings below what was traded within the hour; and keys that another host has.
LOWERED = {"MAX_NOTIONAL_USDC": "15", "MAX_LEVERAGE": "3", "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD"}
USUAL = {
    "MAX_NOTIONAL_USDC": "1000",
    "MAX_LEVERAGE": "75",
    "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD,SOL-USD",
    "SIGNER_BACKEND": "keyfile",
    "WEB3SIGNER_URL": "",
}


def play(ground: Ground) -> None:
    """From the first start to a healthy stack under watch; without it `plain` does the same."""
    stack, ledger = ground.stack, ground.ledger
    stack.start()
    ground.await_live()
    wide = ground.signal(symbol="SOL-USD", leverage_x=4)
    ground.await_state(wide, "filled")
    with Web3SignerFake(keys=[_key(ground)]) as signer:
        ground.restart(**LOWERED, SIGNER_BACKEND="web3signer", WEB3SIGNER_URL=signer.url)
        ground.await_live()
        ledger.injected("VantaBackupOld", "a stack of which no backup was ever made")
        ledger.injected("VantaBotSilent", "the bot's process was never started")
        ledger.injected("VantaNotionalBreach", "restart with a ceiling below a LIVE open of the last hour")
        ledger.injected("VantaLeverageBreach", "restart with a ceiling below a LIVE open of the last hour")
        ledger.injected("VantaSymbolBreach", "restart without the symbol of a LIVE open of the last hour")
        ground.watch()
        signer.faults.away = True
        ledger.injected("VantaSignerFailing", "the remote signer breaks every connection; a LIVE open waits")
        waiting = ground.signal(max_lag_s=900)
        names = ("VantaBackupOld", "VantaBotSilent", "VantaNotionalBreach", "VantaLeverageBreach")
        ground.await_told(*names, "VantaSymbolBreach", "VantaSignerFailing", within_s=150)
        ground.care()
        ground.await_over(150, but=("VantaNotionalBreach", "VantaLeverageBreach", "VantaSymbolBreach"))
    ledger.injected("VantaMetricsSilent", "the whole stack is stopped")
    super(type(stack), stack).stop()
    ground.await_told("VantaMetricsSilent")
    ground.restart(**USUAL)
    ground.await_live()
    ground.await_state(waiting, "filled")
    ground.await_over(120, but=("VantaSignerFailing",))


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
