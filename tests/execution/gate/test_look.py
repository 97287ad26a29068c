"""How old what a process looks at may be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from execution_app.gate.look import Seen


def test_how_old_a_comparison_may_be() -> None:
    """Of a process that began with it, 20 s to the microsecond."""
    at, tick = datetime(2026, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    seen = Seen(1, frozenset(), "", reconciled_at=at, now=at + timedelta(seconds=20))
    never = "chain and database have not been compared yet"
    before = "chain and database have not been compared since this process started"
    assert seen.chain_problem(started_at=at) == ""
    late = replace(seen, now=seen.now + tick)
    assert late.chain_problem(at) == "chain and database were last compared too long ago"
    assert seen.chain_problem(at + tick) == before
    assert replace(seen, reconciled_at=None).chain_problem(at) == before
    assert replace(seen, halted="another genesis").chain_problem(at) == "another genesis"
    assert replace(seen, halted=None).chain_problem(at) == never
