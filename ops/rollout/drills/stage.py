"""What every drill stands on: the running stack, who sends, who looks, and how all of it is undone."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from execution_app.models import Trader
from execution_app.states import Mode
from execution_app.venues import onchain
from ops.rollout.drills import logs, witness
from ops.rollout.drills.health import Health, HealthWatch
from ops.rollout.drills.health import Mode as ModeAnswer
from ops.rollout.drills.parts import REDIS, WATCHERS, Mark, Parts
from ops.rollout.drills.report import CannotRun, Failed, Report
from ops.rollout.drills.traffic import Sender

REHEARSAL_CHAIN_ID = 31337
DUPLICATES = "vanta_intent_duplicate"


@dataclass(frozen=True)
class Timing:
    """How long a fault lasts, how often a signal is sent, and how patient the drill is, in seconds.

    `margin_s` is added to what the contract promises (1 s), for the time that looking takes.
    """

    seconds: float = 60.0
    every_s: float = 0.5
    margin_s: float = 0.5
    recovery_s: float = 60.0
    settle_s: float = 180.0

    @property
    def follow_s(self) -> float:
        """By when every process follows a change of the mode."""
        return 1.0 + self.margin_s


@dataclass
class Stage:
    report: Report
    parts: Parts
    health: Health
    timing: Timing
    undo: ExitStack
    force_dry_path: Path
    source: str
    tg_user_id: int
    symbol: str
    keep_positions: bool = False

    def __post_init__(self) -> None:
        self.requested = Mode.DRY

    @property
    def live(self) -> bool:
        return self.requested is Mode.LIVE

    def require(self, confirmed_chain: int | None) -> None:
        """A stack in which nothing is wrong yet. Raises CannotRun."""
        chain_id = settings.ENVIRONMENT.chain_id
        if not Trader.objects.filter(tg_user_id=self.tg_user_id, enabled=True).exists():
            raise CannotRun(f"--trader {self.tg_user_id}: no such trader, or a disabled one")
        if self.symbol not in onchain.PAIRS:
            raise CannotRun(f"--symbol {self.symbol}: none of {', '.join(sorted(onchain.PAIRS))}")
        mode = self.health.require()
        self.requested = Mode(mode["requested"])
        permit_chain(chain_id, witness.chain_id(), confirmed_chain, mode)
        if mode["emergency_stop"] or mode["reduce_only"] or witness.restrictions():
            held = ", ".join(witness.restrictions()) or str(mode["reason"])
            raise CannotRun(f"something restricts execution already: {held}")
        self.parts.identities()
        deadline_s = time.monotonic() + self.timing.recovery_s
        while (look := self.health.look()).status != "ok" or look.mode["mode"] != self.requested:
            if time.monotonic() > deadline_s:
                raise CannotRun(f"the stack is not well to begin with: {look.status} {look.mode}")
            time.sleep(0.1)
        self.report.step(
            f"chain {chain_id}, {self.parts.form} parts, requested mode {self.requested}, /health ok"
        )
        if not self.live:
            self.report.left_out("anything that only LIVE shows: the requested mode is DRY, no bytes leave")

    def sender(self, name: str) -> Sender:
        """A source of signals whose ids no other drill has used."""
        return Sender(
            self.health.url,
            settings.ENVIRONMENT.webhook_hmac_secret.get_secret_value(),
            self.source,
            self.tg_user_id,
            self.symbol,
            f"drill-{name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}",
        )

    def watch(self) -> HealthWatch:
        """In the background until the drill ends."""
        return self.undo.enter_context(HealthWatch(self.health))

    def is_back(self, mode: ModeAnswer) -> bool:
        """Whether the mode is what it was before, after enough healthy readings."""
        needed: int = settings.ENVIRONMENT.allow_live_after_streak
        return bool(
            mode["mode"] == self.requested
            and mode["requested"] == self.requested
            and mode["redis_health_streak"] >= needed
            and not mode["emergency_stop"]
        )

    def await_back(self) -> float:
        return self.health.await_mode(
            self.is_back, self.timing.recovery_s, f"mode {self.requested} and no stop again"
        )

    def logs_since(self, mark: Mark) -> dict[str, str]:
        return {name: self.parts.log_since(mark, name) for name in WATCHERS}

    def check_processes(self, before: dict[str, str], *, spared: frozenset[str] = frozenset()) -> None:
        """No process was started again, but for those that the fault itself ended."""
        after = self.parts.identities()
        names = {REDIS, "valkey"} if REDIS in spared else set(spared)
        changed = [
            f"{name}: {before.get(name)} > {after.get(name)}"
            for name in sorted({*before, *after} - names)
            if before.get(name) != after.get(name)
        ]
        self.report.check(
            "no main process was restarted", not changed, "; ".join(changed) or f"{len(after)} alive"
        )

    def check_said(self, mark: Mark, component: str, phrase: str) -> None:
        said = logs.by_process(self.parts.log_since(mark, component), phrase)
        evidence = f"{sum(said.values())} times" if said else "not once"
        self.report.check(f"the log of {component} says `{phrase}`", bool(said), evidence)

    def check_executed_once(self, sender: Sender) -> None:
        """Rows and chain agree that each signal was executed as often as its state says, and no slot is lost."""
        report = self.report
        wrong = witness.wrongly_executed(sender.keys)
        report.check(
            "nothing was executed twice or unnoticed, by the chain's receipts",
            not wrong,
            "; ".join(wrong[:5]) or f"{len(sender.keys)} signals",
        )
        gaps = witness.gaps()
        report.check("nonces have no gap", not gaps, "; ".join(gaps[:5]) or f"next {witness.next_nonces()}")
        behind = witness.unmined()
        report.check("the chain executed every slot that was taken", not behind, "; ".join(behind) or "equal")
        seen = witness.counter(self.health.metrics(), DUPLICATES)
        report.check(f"{DUPLICATES}_total is 0", seen == 0, seen)

    def positions_open(self, mode: Mode) -> int:
        return witness.positions_open(self.tg_user_id, self.symbol, mode)

    def close_what_was_opened(self, sender: Sender, open_before: int, mode: Mode | None = None) -> None:
        """Leave no trades behind, unless others were there: a close would end those, too.

        Where DRY is closed while LIVE is requested, what was signed before waits for LIVE, and so does its close.
        """
        if self.keep_positions:
            return
        if open_before:
            self.report.step(f"{open_before} positions on {self.symbol} were open before; nothing is closed")
            return
        asked = mode or self.requested
        if not self.positions_open(asked):
            return
        status, key = sender.close()
        if asked == self.requested:
            found = witness.await_closed(key, self.timing.settle_s)
        else:
            self._await_none_open(asked)
            found = witness.ends(witness.closing(key))
        self.report.step(f"closed what the drill opened: {status}, {dict(found)}")

    def _await_none_open(self, mode: Mode) -> None:
        deadline_s = time.monotonic() + self.timing.settle_s
        while left := self.positions_open(mode):
            if time.monotonic() > deadline_s:
                raise Failed(f"{left} {mode} positions are open after {self.timing.settle_s:g} s")
            time.sleep(witness.POLL_S)


def permit_chain(configured: int, real: int, confirmed: int | None, mode: ModeAnswer) -> None:
    """Drills belong on the rehearsal chain; elsewhere only in DRY and only when the chain is named. Raises CannotRun."""
    if configured != real:
        raise CannotRun(f"CHAIN_ID is {configured}, the node is on chain {real}")
    if real == REHEARSAL_CHAIN_ID:
        return
    if confirmed != real:
        raise CannotRun(
            f"chain {real} is not the rehearsal chain; say --yes-on-chain {real} to drill on it in DRY"
        )
    if mode["requested"] != Mode.DRY or mode["mode"] != Mode.DRY:
        raise CannotRun(f"chain {real} is real and LIVE is requested: drills there run in DRY only")
