"""How Telegram says no to a notice, named by what follows from it."""


class TooMany(Exception):  # noqa: N818  (an answer, as told to us)
    """Wait for so many seconds; Telegram does not say whether the chat or the whole bot is meant."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class Away(Exception):  # noqa: N818
    """No answer, or none of Telegram's own; `doubtful` where the message may have come out all the same."""

    def __init__(self, why: str, *, doubtful: bool) -> None:
        super().__init__(why)
        self.doubtful = doubtful


class Shut(Exception):  # noqa: N818
    """The chat takes nothing from us: it blocked the bot, or nobody has begun it."""


class Gone(Exception):  # noqa: N818
    """The message that was to be edited is no longer there."""


class Unsayable(Exception):  # noqa: N818
    """Telegram refuses this very text, and always will."""
