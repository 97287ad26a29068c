"""A port before another port on loopback that fails as networks fail: for PostgreSQL, Redis and a node alike.

What a packet filter does (a SYN that nobody answers) needs root; here a connection is always made and then hears
nothing, which is the harder case for whoever waits, since no connect timeout helps.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Self

CHUNK_BYTES = 65_536
CONTROL_S = 10
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Fault(StrEnum):
    NONE = ""
    REFUSE = "refuse"  # nobody listens, and what was open is reset
    RESET = "reset"  # connections are reset, new ones as soon as they are made
    BLACK_HOLE = "black hole"  # bytes vanish both ways; all that met it is reset once it ends
    HALF_OPEN = "half-open"  # the other side is gone and nobody is ever told, not even afterwards
    LOST_ANSWERS = "lost answers"  # what is asked arrives and is done; the answer becomes a reset
    SLOW = "slow"  # every piece waits `delay_s`
    DUPLICATE = "duplicate"  # what is asked arrives twice, by another connection; for HTTP


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    """One thread for all proxies of this process: more would wait for each other at every piece."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    shadow: asyncio.StreamWriter | None = None
    is_deaf: bool = False

    def close(self, *, reset: bool = False) -> None:
        for writer in (self.client, self.server, self.shadow):
            if writer is None or writer.transport.is_closing():
                continue
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


class TcpProxy:
    """Use as a context manager; `inject` and `mend` return when the fault is there, or gone."""

    def __init__(self, target: int, delay_s: float = 0.2) -> None:
        self.target = target
        self.delay_s = delay_s
        self.fault = Fault.NONE
        self.port = 0
        self._links: set[_Link] = set()
        self._loop = _loop()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())

    @property
    def open_links(self) -> int:
        return len(self._links)

    def inject(self, fault: Fault) -> None:
        self._do(self._begin(fault))

    def mend(self) -> None:
        self._do(self._mend())

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self.inject(fault)
        try:
            yield
        finally:
            self.mend()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CONTROL_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _begin(self, fault: Fault) -> None:
        self.fault = fault
        if fault is Fault.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            if fault in (Fault.REFUSE, Fault.RESET):
                link.close(reset=True)
            elif fault in (Fault.BLACK_HOLE, Fault.HALF_OPEN):
                link.is_deaf = True
                if fault is Fault.HALF_OPEN and link.server is not None:
                    link.server.transport.abort()
            elif fault is Fault.DUPLICATE:
                await self._double(link)

    async def _mend(self) -> None:
        ended, self.fault = self.fault, Fault.NONE
        for link in list(self._links):
            if ended is Fault.BLACK_HOLE and link.is_deaf:
                link.close(reset=True)
            if ended is Fault.DUPLICATE and link.shadow is not None:
                link.shadow.transport.abort()
                link.shadow = None
        if ended is Fault.REFUSE:
            await self._listen()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        # Whoever reads from them comes to the end by that; a connection that is being made is in the list, too.
        for link in list(self._links):
            link.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        down: asyncio.Task[None] | None = None
        try:
            if self.fault is Fault.RESET:
                return
            link.is_deaf = self.fault in (Fault.BLACK_HOLE, Fault.HALF_OPEN)
            if not link.is_deaf:
                answers, link.server = await asyncio.open_connection("127.0.0.1", self.target)
                if writer.transport.is_closing():  # cut while this was under way
                    return
                if self.fault is Fault.DUPLICATE:
                    await self._double(link)
                down = asyncio.create_task(self._bring(answers, link))
            await self._take(reader, link)
        except OSError:  # a side is gone; the other one is told by a reset
            return
        finally:
            if down is not None:
                down.cancel()
            link.close(reset=True)
            self._links.discard(link)

    async def _take(self, reader: asyncio.StreamReader, link: _Link) -> None:
        """From the client to the server, until the client leaves."""
        while part := await reader.read(CHUNK_BYTES):
            await self._wait()
            if link.is_deaf or link.server is None:
                continue
            link.server.write(part)
            if link.shadow is not None:
                link.shadow.write(part)
            await link.server.drain()

    async def _bring(self, answers: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while part := await answers.read(CHUNK_BYTES):
                await self._wait()
                if link.is_deaf:
                    continue
                if self.fault is Fault.LOST_ANSWERS:
                    break
                link.client.write(part)
                await link.client.drain()
        if not link.is_deaf:
            link.close(reset=self.fault is Fault.LOST_ANSWERS)

    async def _double(self, link: _Link) -> None:
        with suppress(OSError):
            answers, link.shadow = await asyncio.open_connection("127.0.0.1", self.target)
            self._loop.create_task(_swallow(answers))

    async def _wait(self) -> None:
        if self.fault is Fault.SLOW:
            await asyncio.sleep(self.delay_s)


async def _swallow(answers: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await answers.read(CHUNK_BYTES):
            pass
