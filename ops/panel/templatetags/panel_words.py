"""Filters that show times as people read them."""

from datetime import datetime

from django import template

from execution_app import people
from ops.bot import words as bot_words
from ops.panel import explorers, words

register = template.Library()


@register.filter
def explorer(tx_hash: str) -> str:
    return explorers.of_transaction(tx_hash)


@register.filter
def unveiled(told: str) -> str:
    """Who stands behind the pseudonyms of what rows tell, where that is still known."""
    return people.unveiled(told)


@register.filter
def in_words(reason: str) -> str:
    """A reason code and what it means, so that nobody has to know the codes."""
    said = bot_words.reason(reason)
    return reason if said == reason else f"{reason}: {said}"


@register.filter
def grouped(count: int) -> str:
    return words.grouped(count)


@register.filter
def utc(at: datetime) -> str:
    return words.utc(at)


@register.filter
def ago(at: datetime, now: datetime) -> str:
    return words.ago(at, now)
