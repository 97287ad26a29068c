"""A pytest plugin that starts the real parts before Django reads its settings.

PostgreSQL, Valkey and an EVM node with the rehearsal venue, on free ports, in
a temporary folder; all end with the test run.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ops.rehearsal import venue
from ops.rehearsal.parts.anvil import Anvil
from ops.rehearsal.parts.postgres import Postgres
from ops.rehearsal.parts.valkey import Valkey
from tests import migrated
from tests.hardhat_node import Hardhat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(tempfile.mkdtemp(prefix="vanta-tests-"))
FOLDER.chmod(0o755)

# The bench measures what a crash would not lose; tests need no disk.
DURABLE = os.environ.get("TEST_DURABLE") == "1"
postgres = Postgres(FOLDER / "postgres", durable=DURABLE)
valkey = Valkey(FOLDER / "valkey")
TOOLS = ROOT / "var" / "tools"
# No interval: tests mine when they say so. TEST_NODE=hardhat puts another kind of node in its place.
anvil: Anvil | Hardhat = (
    Hardhat(FOLDER / "chain", tools=TOOLS)
    if os.environ.get("TEST_NODE", "anvil") == "hardhat"
    else Anvil(FOLDER / "chain", tools=TOOLS, block_time_s=None, durable=DURABLE)
)


def forget_database() -> None:
    """An emptied database is another one for whoever keeps what names it."""
    (FOLDER / "state" / "database.json").unlink(missing_ok=True)


def _end() -> None:
    for part in (anvil, valkey, postgres):
        part.destroy()
    shutil.rmtree(FOLDER, ignore_errors=True)


atexit.register(_end)
if files := os.environ.get("TEST_POSTGRES_FILES"):
    migrated.copy_files(Path(files), FOLDER / "postgres")
elif not DURABLE:
    migrated.put(FOLDER / "postgres")
for part in (postgres, valkey, anvil):
    part.start()

deployment = venue.ensure(
    anvil.url, FOLDER / "chain.json", max_trades_per_pair=2_000, max_pending_orders=2_000
)

os.environ.update(
    {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": valkey.url,
        "BASE_RPC_URL": anvil.url,
        "CHAIN_ID": "31337",
        "EXEC_MODE": "LIVE",
        "MAX_NOTIONAL_USDC": "1000",
        "MAX_LEVERAGE": "75",
        "ALLOWED_SYMBOLS": "BTC-USD,ETH-USD,SOL-USD",
        "DEPLOY_ENV": "rehearsal",
        "WEBHOOK_HMAC_SECRET": "test-webhook-secret-not-for-use",
        "ADMIN_TOKEN": "test-admin-token-not-for-use",
        "SECRET_KEY": "test-secret-key-not-for-use-anywhere-but-tests",
        "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
        "SIGNER_KEY_DIR": str(FOLDER / "keys"),
        "STATE_DIR": str(FOLDER / "state"),
        "SIGNER_JOURNAL_DIR": str(FOLDER / "signer-journal"),
        "SIGNER_KEY_PASSWORD": "test-password-not-for-use",
        "VENUE_TRADING_ADDRESS": deployment.trading,
        "VENUE_STORAGE_ADDRESS": deployment.storage,
        "USDC_ADDRESS": deployment.usdc,
        "VENUE_PRICE_AGGREGATOR_ADDRESS": deployment.price_aggregator,
        "LOG_LEVEL": "INFO",
        # At once, but where a test is about it.
        "DRY_KEEPER_DELAY_MS": "0",
    }
)
# The last would have each of some hundred processes compile all source anew, which takes longer than what many do.
for name in ("PROMETHEUS_MULTIPROC_DIR", "FORCE_DRY", "LOG_FORMAT", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(name, None)
sys.dont_write_bytecode = False
