"""The form of other terms for an order that rests."""

from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms

from execution_app.engine import resting
from ops.panel.deeds.deed import DeedForm

_TERM: dict[str, Any] = {"required": False, "max_digits": 24, "decimal_places": 10}


def _typed() -> forms.TextInput:
    return forms.TextInput(attrs={"class": "vanta-input", "autocomplete": "off", "inputmode": "decimal"})


class TermsForm(DeedForm):
    """Other terms of an order that rests; blank leaves one as it is, and `none` takes a level away."""

    limit_price = forms.DecimalField(label="Price in USD (blank: as it is)", **_TERM, widget=_typed())
    slippage_pct = forms.DecimalField(label="Slippage in percent (blank: as it is)", **_TERM, widget=_typed())
    take_profit = forms.CharField(
        label="Take profit in USD (blank: as it is; none: no such level)",
        required=False,
        max_length=40,
        widget=_typed(),
    )
    stop_loss = forms.CharField(
        label="Stop loss in USD (blank: as it is; none: no such level)",
        required=False,
        max_length=40,
        widget=_typed(),
    )

    def clean_take_profit(self) -> Decimal | None:
        return _level(self.cleaned_data["take_profit"])

    def clean_stop_loss(self) -> Decimal | None:
        return _level(self.cleaned_data["stop_loss"])


def _level(text: str) -> Decimal | None:
    if not text:
        return None
    try:
        return resting.NONE if text == "none" else Decimal(text)
    except InvalidOperation:
        raise forms.ValidationError("A price in USD, or none.") from None
