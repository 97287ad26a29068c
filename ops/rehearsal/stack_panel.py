"""What the operator reads when the stack is up."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

WIDTH = 100


def fresh_signal_id() -> str:
    """New at each start: a signal id is spent by its first use."""
    return f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def signed_curl(webhook_url: str, secret: str, signal_id: str) -> str:
    """A complete command on one line; nothing in it needs another quote."""
    body = json.dumps(
        {
            "source": "drill",
            "signal_id": signal_id,
            "tg_user_id": 123,
            "symbol": "BTC-USD",
            "side": "LONG",
            "collateral_usdc": 5,
            "leverage_x": 2,
            "slippage_pct": "0.5",
        },
        separators=(",", ":"),
    )
    signature = hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()
    return (
        f"curl -sS -w '\\n' -X POST {webhook_url}/signals -H 'Content-Type: application/json' "
        f"-H 'X-Signature: {signature}' -d '{body}'"
    )


def mode_words(execution_mode: Mapping[str, object]) -> str:
    """What holds now, as /health tells it: a stop outlives a restart, and LIVE may be refused."""
    mode, requested = execution_mode.get("mode"), execution_mode.get("requested")
    if execution_mode.get("emergency_stop"):
        return f"EMERGENCY STOP ({mode}): every signal is rejected; the admin site says how to lift it"
    words = str(mode)
    if execution_mode.get("reduce_only"):
        words += ", REDUCE-ONLY: only what lowers exposure passes"
    if requested == "LIVE" and mode != "LIVE":
        return f"{words}, though LIVE was asked for: {execution_mode.get('reason')}"
    return words if mode == "LIVE" else f"{words}     (EXEC_MODE=LIVE make run trades on the rehearsal chain)"


def show(values: Mapping[str, str], mode: str, folder: Path, took_s: float) -> None:
    """The facts in a box; the command below it bare, since box characters and wraps spoil a paste."""
    url = values["WEBHOOK_URL"]
    rows = {
        "signals": f"{url}/signals",
        "health": f"{url}/health     metrics: {url}/metrics",
        "admin": f"{url}/admin/     {values['ADMIN_USER']} / {values['ADMIN_PASSWORD']}",
        "mode": mode,
        "chain": f"{values['CHAIN_ID']} at {values['BASE_RPC_URL']}",
        "trader": f"tg_user_id 123, {values['TRADER_ADDRESS']}",
        "tools": f"set -a; . {folder.name}/stack.env     psql, redis-cli: {folder.name}/bin",
        "logs": f"{folder.name}/log/",
        "stop": "Ctrl-C",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console(width=max(WIDTH, max(map(len, rows.values())) + 16), highlight=False)
    console.print(Panel(table, title=f"Vanta is up ({took_s:.1f} s)", expand=False))
    command = signed_curl(url, values["WEBHOOK_HMAC_SECRET"], fresh_signal_id())
    print(f"One signed signal, ready to paste:\n\n{command}\n", flush=True)
