"""Filters that show times as people read them."""

from datetime import datetime

from django import template

from ops.panel import words

register = template.Library()


@register.filter
def utc(at: datetime) -> str:
    return words.utc(at)


@register.filter
def ago(at: datetime, now: datetime) -> str:
    return words.ago(at, now)
