"""The block that a pass acts on: one that a majority of endpoints has reached, and never behind what was acted on.

What an endpoint says of itself is a `View`; `choose` is arithmetic over them. A
single endpoint cannot pull a pass back by lagging, nor ahead by inventing
blocks. With fewer votes than a majority the pass follows what answers, as long
as that is not behind, and nothing becomes final by it.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings

from execution_app.errors import Disagreement
from execution_app.models import Chain
from execution_app.node import quorum, rpc

log = structlog.get_logger(__name__)
BACK_LIMIT = 64  # blocks that a reorg may take from the head
FRESH_S = 60  # a node whose latest block is older than that may be behind the chain
NOTHING_FINAL = -1


@dataclass(frozen=True)
class Mark:
    """The highest head and the newest final block that were acted on.

    `reached` is the head that a majority had last; None where nobody tells them apart.
    """

    head: int = 0
    final: int = NOTHING_FINAL
    final_hash: str = ""
    reached: int | None = None

    def is_a_minoritys(self) -> bool:
        return self.reached is not None and self.reached < self.head


@dataclass(frozen=True)
class View:
    """One endpoint's chain. `hash_at_mark` is its block at the mark's final number, blank where it has none."""

    position: int
    number: int
    block_hash: str
    base_fee_wei: int
    final: int
    genesis_hash: str
    chain_id: int
    hash_at_mark: str = ""
    is_fresh: bool = False


@dataclass(frozen=True)
class Head:
    """The block everything of one pass is read at, the newest final one, and who may be asked about them."""

    number: int
    block_hash: str
    finalized: int
    genesis_hash: str
    chain_id: int
    base_fee_wei: int
    readers: frozenset[int]
    finalized_hash: str = ""


def look(mark: Mark) -> Head:
    """Ask every endpoint and choose. Raises Disagreement, or RpcFault when there is nothing to act on."""
    calls: list[rpc.Call] = [
        ("eth_getBlockByNumber", ("latest", False)),
        ("eth_getBlockByNumber", ("finalized", False)),
        ("eth_getBlockByNumber", ("0x0", False)),
        ("eth_chainId", ()),
        ("eth_getBlockByNumber", (hex(max(mark.final, 0)), False)),
    ]
    views = []
    for position, answers in quorum.ask_each(calls):
        try:
            views.append(_view(position, answers))
        except (TypeError, ValueError, KeyError, rpc.NodeError) as problem:
            log.warning("endpoint does not say where it is", endpoint=position, problem=str(problem)[:200])
    head = choose(views, quorum.needed(), mark)
    return _with_final_hash(head, mark)


@contextmanager
def not_behind() -> Iterator[None]:
    """For the time of what is read of the newest block no endpoint answers that is behind what was acted on last.

    One that follows the chain no more answers as well as any: its price is the newest one there is by its own clock, and
    a trade that was opened since is not there. Endpoints are asked only up to the first that has that block.
    """
    if len(rpc.endpoints()) == 1:
        yield
        return
    head = Chain.objects.filter(pk=settings.ENVIRONMENT.chain_id).values_list("head_number", flat=True)
    with rpc.reading_from(quorum.not_behind(head.first() or 0)):
        yield


def _view(position: int, answers: Sequence[Any]) -> View:
    latest, finalized, genesis, chain_id, marked = answers
    for answer in (latest, genesis, chain_id):
        if isinstance(answer, rpc.NodeError):
            raise answer
    return View(
        position=position,
        number=int(latest["number"], 16),
        block_hash=latest["hash"],
        base_fee_wei=int(latest.get("baseFeePerGas", "0x0"), 16),
        # Without a finalized block nothing is final yet; that only delays, it never lies.
        final=int(finalized["number"], 16) if isinstance(finalized, dict) else NOTHING_FINAL,
        genesis_hash=genesis["hash"],
        chain_id=int(chain_id, 16),
        hash_at_mark=marked["hash"] if isinstance(marked, dict) else "",
        is_fresh=int(latest.get("timestamp", "0x0"), 16) > time.time() - FRESH_S,
    )


def choose(views: Sequence[View], needed: int, mark: Mark) -> Head:
    """Raises Disagreement when what was final is not any more, RpcFault when nothing that answers is far enough."""
    for view in views:
        _contradict(view, mark)
    ours = [view for view in views if not _is_elsewhere(view, mark)]
    if not ours:
        raise rpc.RpcFault("no endpoint answers that is on the chain we know")
    number = _number(ours, needed, mark)
    at = next(view for view in ours if view.number == number)
    finals = sorted((view.final for view in ours), reverse=True)
    return Head(
        number=number,
        block_hash=at.block_hash,
        finalized=min(number, finals[needed - 1]) if len(finals) >= needed else NOTHING_FINAL,
        genesis_hash=_agreed_genesis(ours, needed),
        chain_id=at.chain_id,
        base_fee_wei=at.base_fee_wei,
        readers=frozenset(view.position for view in ours if view.number >= number),
    )


def _contradict(view: View, mark: Mark) -> None:
    """A node for which another block than ours is final says that we settled on what never was; nobody trades."""
    other = view.hash_at_mark not in {"", mark.final_hash}
    if mark.final_hash and other and view.final >= mark.final:
        raise Disagreement(
            f"endpoint {view.position} says that its final block {mark.final} is {view.hash_at_mark},"
            f" but {mark.final_hash} was final here"
        )


def _is_elsewhere(view: View, mark: Mark) -> bool:
    """On a branch without our final block, and not final itself: whatever it says is about another chain."""
    return bool(mark.final_hash) and view.hash_at_mark not in {"", mark.final_hash}


def _number(views: Sequence[View], needed: int, mark: Mark) -> int:
    numbers = sorted((view.number for view in views), reverse=True)
    ahead = [view.number for view in views if view.number >= mark.head]
    if len(numbers) < needed:
        if not ahead:
            raise rpc.RpcFault(f"all endpoints that answer are behind block {mark.head}")
        return ahead[0]
    agreed = numbers[needed - 1]
    if agreed >= mark.head or _refutes(views, needed, agreed, mark):
        return agreed
    if ahead:
        return min(ahead)  # most lag; whoever does not may be asked, and has no majority
    if agreed < mark.final:
        raise Disagreement(f"the chain's head is block {agreed}, but block {mark.final} was final here")
    if agreed < mark.head - BACK_LIMIT:
        raise Disagreement(f"the chain's head went back from block {mark.head} to {agreed}")
    return agreed


def _refutes(views: Sequence[View], needed: int, agreed: int, mark: Mark) -> bool:
    """Whether blocks far ahead, by the word of fewer than a majority, are none: a majority has gone on since, and is not behind.

    Else one node that invented a block while the others were away would keep everybody from trading until the chain is there.
    """
    if not mark.is_a_minoritys() or agreed >= mark.head - BACK_LIMIT:
        return False
    if agreed <= max(mark.reached or 0, mark.final):
        return False
    return sum(view.is_fresh for view in views if view.number >= agreed) >= needed


def _agreed_genesis(views: Sequence[View], needed: int) -> str:
    """What most say; one alone may be believed only where nobody contradicts."""
    (genesis, votes), *others = Counter(view.genesis_hash for view in views).most_common()
    if others and votes < needed:
        raise rpc.RpcFault("endpoints do not agree on the first block")
    return genesis


def _with_final_hash(head: Head, mark: Mark) -> Head:
    """The hash under which a further block is final; one that has no majority is not final yet."""
    if head.finalized <= mark.final:
        return head
    votes: Counter[str] = Counter()
    with rpc.reading_from(head.readers):
        for _, (block,) in quorum.ask_each([("eth_getBlockByNumber", (hex(head.finalized), False))]):
            if isinstance(block, dict):
                votes[str(block.get("hash"))] += 1
    best, count = votes.most_common(1)[0] if votes else ("", 0)
    if count >= quorum.needed():
        return Head(**{**vars(head), "finalized_hash": best})
    log.warning("endpoints do not agree on a final block", block=head.finalized, votes=dict(votes))
    return Head(**{**vars(head), "finalized": mark.final})
