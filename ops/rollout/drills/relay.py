"""A port before the node that fails as networks do: it is slow, it refuses, or it swallows the answers."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import Any, Self

from ops.rollout.drills.report import NotInjected

CHUNK_BYTES = 65_536
CONTROL_S = 10
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
SENDS = b"eth_sendRawTransaction"


class Fault(StrEnum):
    NONE = "none"
    SLOW = "slow"  # every request waits `delay_s`
    REFUSE = "refuse"  # nobody listens, and what was open is reset
    LOSE = "lose"  # what is asked is done; the answer becomes a reset, if the question has `losing` in it


class Relay:
    """From 127.0.0.1:`port` to 127.0.0.1:`upstream`. `inject` returns when the fault is there, or gone."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port, self._upstream = port, upstream
        self.fault = Fault.NONE
        self.delay_s = 0.0
        self.losing = b""
        self.lost = 0  # answers that were swallowed after the node had given them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="drill-relay", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        """Raises NotInjected where the port cannot be had."""
        self._thread.start()
        try:
            self._do(self._listen())
        except OSError as error:
            self._end_loop()
            raise NotInjected(f"port {self.port} of the node cannot be taken: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._refuse())
        self._end_loop()

    def inject(self, fault: Fault, *, delay_s: float = 0.0, losing: bytes = b"") -> None:
        self.delay_s, self.losing = delay_s, losing
        self.fault = fault
        self._do(self._refuse() if fault is Fault.REFUSE else self._listen())

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONTROL_S)
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(CONTROL_S)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            reset(writer)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._open.add(writer)
        node: asyncio.StreamWriter | None = None
        try:
            answers, node = await asyncio.open_connection("127.0.0.1", self._upstream)
            asked = bytearray()
            both = (self._ask(reader, node, asked), self._answer(answers, writer, asked))
            tasks = [asyncio.create_task(one) for one in both]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in tasks:
                    one.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            reset(writer)  # whoever asked sees a broken connection, which is what a fault is
        finally:
            self._open.discard(writer)
            self._serving.discard(task)
            for end in (writer, node):
                if end is not None:
                    end.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, node: asyncio.StreamWriter, asked: bytearray) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.fault is Fault.SLOW:
                await asyncio.sleep(self.delay_s)
            asked += chunk
            node.write(chunk)
            await node.drain()

    async def _answer(
        self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytearray
    ) -> None:
        while chunk := await answers.read(CHUNK_BYTES):
            if self.fault is Fault.LOSE and self.losing in asked:
                self.lost += 1
                reset(writer)
                return
            asked.clear()
            writer.write(chunk)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """The other side sees RST."""
    if writer.transport.is_closing():
        return
    found = writer.get_extra_info("socket")
    with suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
