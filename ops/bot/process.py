"""The bot's process: updates are polled or posted, stops run ahead of everything, each person's other questions in their order.

Whatever may block has a thread of its own kind: a stop never waits behind somebody's look, and an update is stored
while looks go on.
"""

import asyncio
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

from execution_app import patience
from execution_app.gate import control
from ops.bot import binding_pages, confirmations, counter, idling, inbox, outbox, words
from ops.bot.dispatch import Dispatcher
from ops.bot.door import Door
from ops.bot.hook import Hook
from ops.bot.inbox import Incoming
from ops.bot.replies import Reply
from ops.bot.texts import ENGLISH, LANGUAGES
from ops.bot.window import POLL_S, Closed, Window

log = structlog.get_logger(__name__)
T = TypeVar("T")

POLLING = "polling"
LISTENING = "listening"
CHECK_HOOK_EVERY_S = 20.0
STARTING = "waiting: the first answer of Telegram"
DATABASE_AWAY = "waiting: the database is away"
PORT_TAKEN = "waiting: TELEGRAM_WEBHOOK_PORT cannot be listened on"
MOST_WAITING = 20  # updates of one person
LOOKS_AT_ONCE = 4
TRY_AGAIN_S = 1.0
ROWS_ANSWER_S = 5.0
FORGET_EVERY_S = 86_400.0
GRACE_S = 4.0  # for what is under way when the process is to end; containers give 10


class Process:
    """Everything one process of the bot knows."""

    def __init__(self, window: Window, hook: Hook | None) -> None:
        self._window = window
        self._hook = hook
        self._door = None if hook is None else Door(hook, self._take)
        self._ended = asyncio.Event()
        self._note = STARTING
        self._offset = 0
        self._waiting: dict[int, deque[Incoming]] = defaultdict(deque)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stops = ThreadPoolExecutor(2, "stop")
        # An update, also a stop, is heard by this one: what is asked there is small, so silence is not waited for.
        self._rows = ThreadPoolExecutor(1, "rows", partial(patience.answer_within, ROWS_ANSWER_S))
        self._beats = ThreadPoolExecutor(1, "beat")
        self._looks = ThreadPoolExecutor(LOOKS_AT_ONCE, "look")
        self._notices = Dispatcher(window, self._in, self._start, window.pace)

    async def run(self) -> None:
        """Until SIGTERM or Ctrl-C; what is under way then gets a little time."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        notices = (self._notices.look_for_alarms, self._notices.look, self._notices.deliver)
        works = [asyncio.create_task(work()) for work in (self._beat, self._hear, self._forget, *notices)]
        ended: asyncio.Task[Any] = asyncio.create_task(self._ended.wait())
        done, _ = await asyncio.wait([*works, ended], return_when=asyncio.FIRST_COMPLETED)
        for work in works:
            if work not in done:
                work.cancel()
        if self._door is not None:
            await self._door.close()
        until_s = loop.time() + GRACE_S
        while self._tasks and loop.time() < until_s:  # what is under way may begin more
            await asyncio.wait(self._tasks, timeout=until_s - loop.time())
        await self._window.close()
        for pool in (self._stops, self._rows, self._beats, self._looks, *self._notices.pools):
            pool.shutdown(wait=False, cancel_futures=True)
        for work in done - {ended}:
            work.result()  # a part that ended by itself has failed, and the process with it
        log.info("ended", component=idling.COMPONENT)

    async def _hear(self) -> None:
        """Begin with what a former process left, then listen in the way that is asked for; trouble is waited for."""
        ready = recovered = False
        while True:
            try:
                await self._listen()
                if not recovered:
                    self._begin(await self._in(self._rows, inbox.left))
                    recovered = True
                if not ready:
                    await self._introduce()
                    ready = True
                if self._hook is None:
                    await self._poll()
                else:
                    await self._check_hook(self._hook)
            except Closed as closed:
                self._say_state(str(closed))
                await asyncio.sleep(closed.wait_s)
            except DatabaseError as error:
                self._say_state(DATABASE_AWAY, type(error).__name__)
                await asyncio.sleep(TRY_AGAIN_S)

    async def _listen(self) -> None:
        """Where updates are posted. Raises Closed where somebody else listens there."""
        if self._door is not None:
            try:
                await self._door.begin()
            except OSError as error:
                raise Closed(PORT_TAKEN, TRY_AGAIN_S) from error

    async def _introduce(self) -> None:
        """Say what can be asked for and, one way or the other, where updates go. Raises Closed."""
        for language in LANGUAGES:
            with words.speaking(language):
                menu = [(name, counter.about(name)) for name in counter.COMMANDS]
            await self._window.introduce(menu, "" if language == ENGLISH else language)
        if self._hook is None:
            await self._window.unhook()
        else:
            await self._window.hook_up(self._hook, anew=True)

    async def _poll(self) -> None:
        """One poll, which confirms what the one before brought."""
        # The first answer, and the first one after any trouble, is told at once, not when something comes.
        hold_s = POLL_S if self._note == POLLING else 0
        found, following = await self._window.updates(self._offset, hold_s)
        # Committed before the next poll confirms them.
        await self._take(found)
        self._offset = following
        self._say_state(POLLING)

    async def _check_hook(self, hook: Hook) -> None:
        """Whether updates are posted to us still: another process may have taken them away."""
        assert self._door is not None
        self._door.is_open = True
        await self._window.hook_up(hook, anew=False)
        self._say_state(LISTENING)
        await asyncio.sleep(CHECK_HOOK_EVERY_S)

    async def _take(self, found: list[Incoming]) -> None:
        """Store, and begin what is new; once this returns it may be confirmed. Raises django.db.Error."""
        self._begin(await self._in(self._rows, partial(inbox.take, found)))

    def _say_state(self, note: str, why: str = "") -> None:
        """For the heartbeat; a change is logged once."""
        if note != self._note:
            log.warning(note, component=idling.COMPONENT, was=self._note, why=why)
            self._note = note

    def _begin(self, taken: list[Incoming]) -> None:
        """Stops at once, each by itself; everything else behind what its person asked before."""
        for one in taken:
            if one.is_stop:
                self._start(self._stop(one))
                continue
            lane = self._waiting[one.user_id]
            if len(lane) > MOST_WAITING:
                self._start(self._finish(one))
                continue
            lane.append(one)
            if len(lane) == 1:
                self._start(self._serve(one.user_id))

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, one: Incoming) -> None:
        """Again and again until the database has confirmed it; only then is it acknowledged."""
        said = False
        while True:
            try:
                reply = await self._in(self._stops, partial(counter.answer, one))
                break
            except Exception as error:  # whatever it is, a stop is not given up
                log.exception("a stop from Telegram is not set yet", why=type(error).__name__)
                if not said:
                    said = True
                    # Beside the tries: a Telegram that is away, too, must not keep a stop waiting.
                    with words.speaking(outbox.last_language_of(one.user_id, one.language)):
                        holds = isinstance(error, control.UnawaitedError)
                        told = words.STOPPED_UNAWAITED if holds else words.NOT_STOPPED_YET
                        self._start(self._window.say(one.chat_id, Reply(told)))
                await asyncio.sleep(TRY_AGAIN_S)
        await self._finish(one)
        await self._tell(one, reply)

    async def _serve(self, user_id: int) -> None:
        lane = self._waiting[user_id]
        while lane:
            one = lane[0]
            full = len(lane) > MOST_WAITING
            reply = await self._reply(one)
            await self._finish(one)
            await self._tell(one, reply)
            if full:
                with words.speaking(outbox.last_language_of(one.user_id, one.language)):
                    await self._window.say(one.chat_id, Reply(words.TOO_MANY))
            lane.popleft()
        del self._waiting[user_id]

    async def _reply(self, one: Incoming) -> Reply | None:
        try:
            return await self._in(self._looks, partial(counter.answer, one))
        except DatabaseError as error:
            log.warning("not answered", command=one.command, why=type(error).__name__)
            # A commit whose answer is lost may hold: nobody is told that nothing was done who may have traded.
            with words.speaking(outbox.last_language_of(one.user_id, one.language)):
                if counter.decides(one):
                    return Reply(words.NOT_CERTAIN)
                # What the database refuses, it has answered: to try again in a minute would help nobody.
                if not isinstance(error, OperationalError | InterfaceError):
                    return Reply(words.FAILED)
                return Reply(words.NOT_CERTAIN_DONE if counter.changes(one) else words.DATABASE_AWAY)
        except Exception:  # a slip of ours in one answer must not end everybody's bot
            log.exception("not answered", command=one.command)
            with words.speaking(outbox.last_language_of(one.user_id, one.language)):
                return Reply(words.FAILED)

    async def _finish(self, one: Incoming) -> None:
        try:
            await self._in(self._rows, partial(inbox.finish, one.update_id))
        except DatabaseError as error:
            # The next process looks at it again, and a stop that holds already changes nothing.
            log.warning("an update is not marked", update_id=one.update_id, why=type(error).__name__)

    async def _tell(self, one: Incoming, reply: Reply | None) -> None:
        if one.query_id:
            await self._window.answer(one.query_id)
        if reply is not None:
            said_id = await self._window.say(one.chat_id, reply, one.message_id)
            if said_id and (reply.binds or reply.asks):
                # Before the next update of this person is handled, so no tap is ever too early.
                await self._note_shown(one, reply, said_id)

    async def _note_shown(self, one: Incoming, reply: Reply, message_id: int) -> None:
        try:
            await self._in(self._rows, lambda: counter.note_shown(one.user_id, reply, message_id))
        except DatabaseError as error:
            # Its buttons then say that there is no such quote or question.
            log.warning("a quote is not bound", why=type(error).__name__)

    async def _beat(self) -> None:
        begins, away = True, False
        while True:
            try:
                await self._in(self._beats, partial(idling.beat, self._note, begins=begins))
                if self._door is not None and (refused := self._door.refused()):
                    await self._in(self._beats, partial(outbox.count, outbox.UNSIGNED, refused))
            except DatabaseError as error:
                if not away:
                    log.warning("no heartbeat", component=idling.COMPONENT, why=type(error).__name__)
                away = True
            else:
                begins = away = False
            await asyncio.sleep(idling.BEAT_EVERY_S)

    async def _forget(self) -> None:
        while True:
            try:
                await self._in(self._looks, inbox.forget)
                await self._in(self._looks, confirmations.forget)
                await self._in(self._looks, outbox.forget)
                await self._in(self._looks, binding_pages.forget)
            except DatabaseError as error:
                log.warning("old updates are kept", why=type(error).__name__)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Run what asks the database in a thread of this pool."""
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: _alone(work))


def _alone(work: Callable[[], T]) -> T:
    """With a connection that is usable, and none left behind that is not."""
    connection.close_if_unusable_or_obsolete()
    try:
        return work()
    except DatabaseError:
        connection.close()
        raise


async def main(token: str, base: str, hook: Hook | None) -> None:
    await Process(Window(token, base), hook).run()
