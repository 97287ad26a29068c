"""`make clean`: away with var/, unless something runs or something would be lost that no rehearsal made."""

import json
import shutil
from pathlib import Path

from ops.rehearsal import stack_chain
from ops.rehearsal.parts import place
from ops.rehearsal.parts.anvil import CHAIN_ID
from ops.rehearsal.stack_chain import UsageError
from ops.rehearsal.stack_lock import StackLock


def clean(folder: Path) -> None:
    """Raises UsageError, RunningError, and then nothing was deleted."""
    if not folder.exists():
        return
    locks = StackLock(folder / "run.lock", "clean"), stack_chain.lock(folder, "clean")
    for lock in locks:
        lock.acquire()
    try:
        foreign = foreign_things(folder)
        if foreign:
            raise UsageError("not deleted, since it may be worth money:\n  " + "\n  ".join(foreign))
        place.remove(folder / "postgres")
        shutil.rmtree(folder)
        print(f"deleted {folder}")
    finally:
        for lock in locks:
            lock.abandon()


def foreign_things(folder: Path) -> list[str]:
    """Keys and data that cannot be shown to belong to the rehearsal chain."""
    record = folder / "chain.json"
    chain = None
    if record.exists():
        try:
            chain = json.loads(record.read_text()).get("chain_id")
        except (ValueError, AttributeError):
            chain = "unreadable"
    found = []
    if chain not in {None, CHAIN_ID}:
        found.append(f"{record} tells of chain {chain}, not of {CHAIN_ID}")
    keys = sorted(path for path in (folder / "keys").rglob("*") if path.is_file())
    if keys and chain != CHAIN_ID:
        found.append(
            f"{folder / 'keys'} holds {len(keys)} key(s), and no record says that they are of {CHAIN_ID}"
        )
    return found
