"""What a check found, and how a command says so: lines for people, JSON for scripts, an exit code for both."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.core.management.base import CommandError, OutputWrapper

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One question, its answer, and what to do about it. `step` is blank where nothing is to be done."""

    name: str
    status: Status
    detail: str
    step: str = ""


def report(
    stdout: OutputWrapper, findings: Sequence[Finding], *, as_json: bool, facts: dict[str, Any]
) -> None:
    """Write all findings and the first step to take. Raises CommandError (exit code 1) when one has failed."""
    failed = [finding for finding in findings if finding.status == "fail"]
    step = next((finding.step for finding in [*failed, *findings] if finding.step), "")
    if as_json:
        body = {"ok": not failed, "next": step, **facts, "checks": [asdict(finding) for finding in findings]}
        stdout.write(json.dumps(body, default=str))
    else:
        for finding in findings:
            stdout.write(f"{finding.status:4}  {finding.name}: {finding.detail}")
        if step:
            stdout.write(f"next: {step}")
    if failed:
        raise CommandError(f"{len(failed)} of {len(findings)} checks failed", returncode=1)
