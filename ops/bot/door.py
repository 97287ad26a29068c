"""The door for what Telegram posts: nobody without the secret is listened to, and nothing is confirmed before it is stored.

An update is confirmed by the answer 200. Any other answer, or none, makes Telegram post it again; so whatever is not
committed is answered 503, as a poll would not have confirmed it.
"""

import hmac
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from django.db import Error as DatabaseError

from ops.bot import hearing
from ops.bot.hook import Hook
from ops.bot.inbox import Incoming

log = structlog.get_logger(__name__)

SECRET = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105  (a header's name)
CLOSES_WITHIN_S = 2.0
LARGEST = 1 << 20  # bytes; Telegram's own are a few thousand


class Door:
    """One port; `take` stores an update and returns once it is committed. Raises django.db.Error where it is not."""

    def __init__(self, hook: Hook, take: Callable[[list[Incoming]], Awaitable[None]]) -> None:
        self._hook = hook
        self._take = take
        self._refused = 0
        self._runner: web.AppRunner | None = None
        self.is_open = False  # once what a former process left is taken up

    def refused(self) -> int:
        """How many came without the secret since this was asked last."""
        many, self._refused = self._refused, 0
        return many

    async def begin(self) -> None:
        """Listen, unless it does already. Raises OSError where the port is taken."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=LARGEST)
        app.router.add_post(self._hook.path, self._post)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSES_WITHIN_S)
        await runner.setup()
        try:
            # Whoever ends TLS may be another container; what comes without the secret is refused.
            await web.TCPSite(runner, "0.0.0.0", self._hook.port).start()  # noqa: S104
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        said = request.headers.get(SECRET, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(said, self._hook.secret.encode()):
            if not self._refused:
                log.warning("an update without the secret is refused", address=request.remote)
            self._refused += 1
            return web.Response(status=401)
        if not self.is_open:
            return web.Response(status=503)
        raw = await request.read()
        try:
            one = hearing.read(raw)
        except ValueError:
            # Answered as taken: posted again it would stand before all others for ever.
            log.warning("an update cannot be read and is left")
            return web.Response()
        if one is not None:
            try:
                await self._take([one])
            except DatabaseError as error:
                log.warning("an update is not stored", why=type(error).__name__)
                return web.Response(status=503)
        return web.Response()
