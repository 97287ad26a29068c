"""Notices on their way: two loops look for news, alarms apart; one lets messages leave at Telegram's pace, alarms first.

None of them is in anybody's way: workers write their own rows and wait for nothing here; answers to people and stops have threads
and requests of their own. Whatever fails here is said and tried again; it never ends the bot.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog
from django.db import Error as DatabaseError

from ops.bot import conditions, daily, feeds, outbox, settling, telling
from ops.bot.feeds import Feed
from ops.bot.outbox import Job
from ops.bot.pace import Pace
from ops.bot.refusals import Away, Gone, Shut, TooMany, Unsayable
from ops.bot.window import Window

log = structlog.get_logger(__name__)
T = TypeVar("T")

ALARMS_EVERY_S = 0.1
TRADES_EVERY_S = 0.25
LASTING_EVERY_S = 1.0
SETTLE_EVERY_S = 1.0
DAILY_EVERY_S = 60.0
TRY_AGAIN_S = 1.0
LONGEST_PAUSE_S = 5.0  # between two tries of a Telegram that does not answer
IDLE_S = 1.0
AT_ONCE = 16  # requests under way
ALARMS_AT_ONCE = 28  # beside them: no request that hangs is in an alarm's way


class InThread(Protocol):
    """Run what asks the database in a thread of this pool."""

    def __call__(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> Awaitable[T]: ...


class Dispatcher:
    """`start` takes a piece of work that the process waits for before it ends."""

    def __init__(
        self,
        window: Window,
        in_thread: InThread,
        start: Callable[[Coroutine[Any, Any, None]], None],
        pace: Pace,
    ) -> None:
        self._window = window
        self._in = in_thread
        self._start = start
        self._pace = pace
        self._busy: dict[bool, set[int]] = {True: set(), False: set()}  # chats, of alarms and of the rest
        self._wake = asyncio.Event()
        self._away = 0  # tries in a row that Telegram did not answer
        self._away_until_s = 0.0
        self._said: set[str] = set()
        self._alarms = ThreadPoolExecutor(1, "alarms")
        self._looks = ThreadPoolExecutor(1, "news")
        self._rows = ThreadPoolExecutor(2, "outbox")
        self._pictures = ThreadPoolExecutor(1, "picture")

    @property
    def pools(self) -> tuple[ThreadPoolExecutor, ...]:
        return (self._alarms, self._looks, self._rows, self._pictures)

    async def look_for_alarms(self) -> None:
        """Look for ever for what cannot wait for anything else to be read."""
        await self._look(self._alarms, feeds.ALARMS, ALARMS_EVERY_S, {conditions.look: LASTING_EVERY_S})

    async def look(self) -> None:
        """Look for the rest for ever; what cannot be read now is read later."""
        lasting = {settling.look: SETTLE_EVERY_S, daily.look: DAILY_EVERY_S}
        await self._look(self._looks, feeds.TRADES, TRADES_EVERY_S, lasting)

    async def _look(
        self,
        pool: ThreadPoolExecutor,
        among: Sequence[Feed],
        every_s: float,
        lasting: Mapping[Callable[[], int], float],
    ) -> None:
        loop = asyncio.get_running_loop()
        due_s = dict.fromkeys(lasting, 0.0)
        while True:
            for feed in await self._behind(pool, among):
                await self._look_at(pool, feed.table, partial(feeds.look, feed))
            for source, source_every_s in lasting.items():
                if loop.time() >= due_s[source]:
                    done = await self._look_at(pool, source.__module__, source)
                    due_s[source] = loop.time() + (source_every_s if done else TRY_AGAIN_S)
            await asyncio.sleep(every_s)

    async def _behind(self, pool: ThreadPoolExecutor, among: Sequence[Feed]) -> list[Feed]:
        name = f"behind {among[0].table}"
        try:
            found = await self._in(pool, partial(feeds.behind, among))
        except Exception as error:  # noqa: BLE001  (said, and tried again)
            self._say_once(name, "news cannot be read", source="all", error=error)
            await asyncio.sleep(TRY_AGAIN_S)
            return []
        self._said.discard(name)
        return found

    async def _look_at(self, pool: ThreadPoolExecutor, name: str, source: Callable[[], int]) -> bool:
        try:
            posted = await self._in(pool, source)
        except Exception as error:  # noqa: BLE001  (one source that fails keeps no other from being told)
            self._say_once(f"news {name}", "news cannot be read", source=name, error=error)
            return False
        self._said.discard(f"news {name}")
        if posted:
            self._wake.set()
        return True

    async def deliver(self) -> None:
        """Let messages leave for ever."""
        while True:
            self._wake.clear()
            try:
                wait_s = min(await self._begin(urgent=True), await self._begin(urgent=False))
            except Exception as error:  # noqa: BLE001  (said, and tried again)
                self._say_once("outbox", "the outbox cannot be read", error=error)
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            self._said.discard("outbox")
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                continue

    async def _begin(self, *, urgent: bool) -> float:
        """Begin what may leave now; returns in how many seconds to look again, unless something happens before."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._away_until_s:
            return self._away_until_s - now_s
        busy = self._busy[urgent]
        places = (ALARMS_AT_ONCE if urgent else AT_ONCE) - len(busy)
        if self._away:
            places = 1 - sum(map(len, self._busy.values()))
        room = self._pace.room(now_s, urgent=urgent)
        if places <= 0:
            return IDLE_S  # whoever comes back wakes us
        if room <= 0:
            return self._pace.next_s(now_s, urgent=urgent) - now_s
        resting = self._pace.resting(now_s, urgent=urgent)
        most = min(places, room)
        ask = partial(outbox.begin, most, urgent=urgent, without=[*busy, *resting])
        begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # By itself: where this loop is ended meanwhile, what was begun is sent all the same, and never in doubt.
        self._start(self._begin_all(ask, begun, urgent=urgent))
        if await begun == most:
            return max(0.0, self._pace.next_s(now_s, urgent=urgent) - now_s)
        return max(0.0, min([now_s + IDLE_S, *resting.values()]) - now_s)

    async def _begin_all(
        self, ask: Callable[[], list[Job]], begun: "asyncio.Future[int]", *, urgent: bool
    ) -> None:
        try:
            jobs = await self._in(self._rows, ask)
        except Exception as error:  # noqa: BLE001  (raised where it is waited for)
            if not begun.cancelled():
                begun.set_exception(error)
            return
        now_s = asyncio.get_running_loop().time()
        for job in jobs:
            self._pace.left(job.chat_id, now_s, normal=not urgent)
            self._busy[urgent].add(job.chat_id)
            self._start(self._send(job))
        if not begun.cancelled():
            begun.set_result(len(jobs))

    async def _send(self, job: Job) -> None:
        try:
            await self._ask(job)
        except Exception as error:  # noqa: BLE001  (said, and tried again)
            # What it was begun with is taken up again when its lease has passed.
            self._say_once("sending", "a notice is left for later", error=error)
            await asyncio.sleep(TRY_AGAIN_S)
        else:
            self._said.discard("sending")
        finally:
            self._pace.back(job.chat_id, asyncio.get_running_loop().time())
            self._busy[job.urgent].discard(job.chat_id)
            self._wake.set()

    async def _ask(self, job: Job) -> None:
        """One request, and the commit of what came of it as close behind it as can be."""
        loop = asyncio.get_running_loop()
        rest: Callable[[], object]
        try:
            said = telling.text(job)
            picture = None if job.message_id else await self._draw(job)
        except Exception as error:  # a slip of ours in one text must not stand before all others for ever
            log.exception("a notice cannot be made", thread=job.thread)
            await self._write(partial(outbox.give_up, job, f"not made: {type(error).__name__}"))
            return
        try:
            message_id = await self._window.tell(
                job.chat_id, said, message_id=job.message_id, silent=job.silent, picture=picture
            )
        except TooMany as answer:
            self._pace.too_many(job.chat_id, answer.retry_after_s, loop.time())
            log.info("telegram wants fewer notices", retry_after_s=answer.retry_after_s)
            rest = partial(outbox.put_back, job, doubtful=False)
        except Away as answer:
            self._pause(str(answer), loop.time())
            rest = partial(outbox.put_back, job, doubtful=answer.doubtful)
        except Shut as answer:
            rest = partial(outbox.close, job.chat_id, str(answer))
        except Gone:
            rest = partial(outbox.gone, job)
        except Unsayable as answer:
            rest = partial(outbox.give_up, job, str(answer))
        else:
            self._away = 0
            rest = partial(outbox.delivered, job, message_id)
        await self._write(rest)

    async def _write(self, rest: Callable[[], object]) -> None:
        """Until it is committed: what Telegram has answered is known, so a database that is away must not make it doubtful."""
        while True:
            try:
                await self._in(self._rows, rest)
            except DatabaseError as error:
                self._say_once("writing", "what came of a notice is not written yet", error=error)
                await asyncio.sleep(TRY_AGAIN_S)
            else:
                self._said.discard("writing")
                return

    async def _draw(self, job: Job) -> bytes | None:
        draw = telling.picture(job)
        return None if draw is None else await self._in(self._pictures, draw)

    def _pause(self, why: str, now_s: float) -> None:
        """Telegram does not answer: one at a time, and less and less often, until it does."""
        if not self._away:
            log.warning("notices wait: Telegram does not answer", why=why)
        self._away += 1
        self._away_until_s = now_s + min(2.0 ** (self._away - 1) / 2, LONGEST_PAUSE_S)

    def _say_once(self, about: str, words: str, *, error: Exception, **facts: str) -> None:
        """Each trouble once, until it is over."""
        if about in self._said:
            return
        self._said.add(about)
        if isinstance(error, DatabaseError):
            log.warning(words, why=type(error).__name__, **facts)
        else:
            log.error(words, why=type(error).__name__, exc_info=error, **facts)
