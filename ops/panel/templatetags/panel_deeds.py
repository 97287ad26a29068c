"""What can be done, beside what is shown."""

from typing import Any

from django import template
from django.template import Context

from execution_app.models import TxIntent
from ops.panel.deeds import offers

register = template.Library()


@register.inclusion_tag("panel/offers.html", takes_context=True)
def row_offers(context: Context, row: Any) -> dict[str, Any]:
    return {"offers": offers.of_row(context["request"].user, row) if row else []}


@register.inclusion_tag("panel/offers.html", takes_context=True)
def key_offers(context: Context, key: str) -> dict[str, Any]:
    return {"offers": offers.of_row(context["request"].user, TxIntent.objects.get(intent_key=key))}


@register.inclusion_tag("panel/offers.html", takes_context=True)
def list_offers(context: Context, options: Any) -> dict[str, Any]:
    """By the options of a list's model, since a template would make a row of the model itself."""
    return {"offers": offers.of_list(context["request"].user, options.model)}
