"""What the bot says: a text with buttons, before anybody knows how it is sent."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Button:
    """`data` comes back when it is pressed; at most 64 bytes."""

    text: str
    data: str


@dataclass(frozen=True)
class Document:
    """A file to send; at most 50 MB."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Reply:
    """HTML, with rows of buttons below it. `instead` puts it in place of the message whose button was pressed.

    `binds` are tokens of confirmations that count under this message alone; with `asks` it is the question of a
    conversation, whose buttons count under it alone. A `document`, or a `picture`, which is a PNG, has the text as its
    caption.
    """

    text: str
    buttons: Sequence[Sequence[Button]] = ()
    instead: bool = False
    binds: tuple[str, ...] = ()
    asks: bool = False
    document: Document | None = None
    picture: bytes | None = None
