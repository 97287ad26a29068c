"""One archive of how things stood: logs, metrics, database, Redis, chain, and which of them could not be asked.

Each text goes through the scrubber before it is written. The archive is there whole or not at all.
"""

import hashlib
import io
import json
import os
import secrets
import tarfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from execution_app.errors import Refused
from execution_app.scrubbing import Scrubber
from ops.rollout import incident_parts as parts
from ops.rollout.incident_parts import Away, Collector, Limits, Texts

FORMAT = 1


@dataclass
class Capture:
    """What was taken: `away` names each part that was not there, and why."""

    name: str
    taken_at: datetime
    reason: str
    texts: Texts = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return not self.away


def take(*, folder: Path, url: str, compose: Sequence[str], limits: Limits, reason: str) -> Capture:
    """Ask every part, the database before the chain, which is asked about its wallets. Changes nothing."""
    now = datetime.now(UTC)
    capture = Capture(f"incident-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}", now, reason)
    scrub = Scrubber(settings.ENVIRONMENT.secrets)
    capture.reason = scrub(reason)
    logs = (
        (lambda: parts.compose_logs(compose, limits))
        if compose
        else (lambda: parts.log_files(folder, limits))
    )
    collectors: dict[str, Collector] = {
        "web": lambda: parts.web(url),
        "logs": logs,
        "configuration": parts.configuration,
        "database": lambda: parts.database(limits),
        "redis": parts.redis_state,
        "chain": lambda: parts.chain(capture.texts),
    }
    for name, collect in collectors.items():
        began_s = time.monotonic()
        try:
            capture.texts |= {path: scrub(text) for path, text in collect().items()}
        except Away as why:
            capture.away[name] = scrub(str(why))
        capture.took_s[name] = round(time.monotonic() - began_s, 3)
    return capture


def facts(capture: Capture) -> dict[str, Any]:
    """The summary as JSON; SHA-256 of each file as it is in the archive."""
    return {
        "format": FORMAT,
        "name": capture.name,
        "taken_at": capture.taken_at.isoformat(),
        "reason": capture.reason,
        "version": settings.VERSION,
        "chain_id": settings.ENVIRONMENT.chain_id,
        "whole": capture.is_whole,
        "away": capture.away,
        "took_s": capture.took_s,
        "files": {
            path: {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
            for path, text in sorted(capture.texts.items())
        },
    }


def summary(capture: Capture) -> str:
    """For whoever opens the archive first."""
    lines = [
        f"# {capture.name}",
        "",
        (
            f"Taken {capture.taken_at.isoformat(timespec='seconds')} by version {settings.VERSION} on chain "
            f"{settings.ENVIRONMENT.chain_id}. Reason: {capture.reason or 'none was given'}."
        ),
        "",
        "## Not here",
        "",
        *([f"- **{name}**: {why}" for name, why in capture.away.items()] or ["Nothing is missing."]),
        "",
        "## Here",
        "",
        "| file | bytes | lines |",
        "|---|---|---|",
        *(
            f"| {path} | {len(text.encode())} | {text.count(chr(10))} |"
            for path, text in sorted(capture.texts.items())
        ),
        "",
        "Logs are their ends, tables their newest rows. Signed bytes, sealed secrets and logins were never read;",
        "known secrets, and what stood after a telling name, were replaced by `[scrubbed]`.",
        "",
    ]
    return "\n".join(lines)


def write(capture: Capture, to: Path) -> Path:
    """Pack it into `to`/NAME.tar.gz, readable by its owner alone. Raises Refused."""
    files = capture.texts | {
        "SUMMARY.md": summary(capture),
        "summary.json": json.dumps(facts(capture), indent=1) + "\n",
    }
    path = to / f"{capture.name}.tar.gz"
    draft = to / f".{path.name}.partial"
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as sink:  # noqa: PTH123 -- an open descriptor
            with tarfile.open(fileobj=sink, mode="w:gz") as archive:
                for name, text in sorted(files.items()):
                    content = text.encode()
                    entry = tarfile.TarInfo(f"{capture.name}/{name}")
                    entry.size, entry.mode = len(content), 0o600
                    entry.mtime = int(capture.taken_at.timestamp())
                    archive.addfile(entry, io.BytesIO(content))
            sink.flush()
            os.fsync(sink.fileno())
        draft.rename(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise Refused(f"{error.filename or to}: {error.strerror}") from None
    return path
