"""The boxes of the home page, as the page itself is made; later they are fetched alone."""

from typing import Any

from django import template
from django.template import Context

from ops.panel.home import page

register = template.Library()


@register.inclusion_tag("panel/home.html", takes_context=True)
def home_boxes(context: Context) -> dict[str, Any]:
    return page.told(context["request"])
