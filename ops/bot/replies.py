"""What the bot says: a text with buttons, before anybody knows how it is sent."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Button:
    """`data` comes back when it is pressed; at most 64 bytes."""

    text: str
    data: str


@dataclass(frozen=True)
class Reply:
    """HTML, with rows of buttons below it. `instead` puts it in place of the message whose button was pressed.

    `picture` is a PNG; the text is its caption then.
    """

    text: str
    buttons: Sequence[Sequence[Button]] = ()
    instead: bool = False
    picture: bytes | None = None
