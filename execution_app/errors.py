"""Errors named by what the caller does with them."""


class Retryable(Exception):  # noqa: N818  (named by the caller's action)
    """Nothing happened or nobody knows; the same call may be made again."""


class Refused(Exception):  # noqa: N818
    """The request is wrong and stays wrong; tell whoever asked."""


class Stale(Exception):  # noqa: N818
    """The row has moved on; somebody else did the work."""


class IllegalMove(Exception):  # noqa: N818
    """A state change that the table of moves does not know: a bug, paged."""


class Disagreement(Exception):  # noqa: N818
    """Chain and database do not describe the same past; nobody may trade."""
