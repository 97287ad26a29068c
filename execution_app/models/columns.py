"""Exact columns: every amount has its unit in its name and its scale here."""

from enum import StrEnum
from typing import Any

from django.db import models


def usdc(**options: object) -> "models.DecimalField[Any, Any]":
    """USDC, 6 decimals as on the chain."""
    return models.DecimalField(max_digits=24, decimal_places=6, **options)  # type: ignore[arg-type]


def factor(**options: object) -> "models.DecimalField[Any, Any]":
    """Leverage or a percentage, 4 decimals."""
    return models.DecimalField(max_digits=12, decimal_places=4, **options)  # type: ignore[arg-type]


def leverage(**options: object) -> "models.DecimalField[Any, Any]":
    """Leverage of a trade as the venue holds it, 10 decimals: an increase blends two."""
    return models.DecimalField(max_digits=20, decimal_places=10, **options)  # type: ignore[arg-type]


def price(**options: object) -> "models.DecimalField[Any, Any]":
    """A price in USD, 10 decimals as the venue scales it."""
    return models.DecimalField(max_digits=30, decimal_places=10, **options)  # type: ignore[arg-type]


def wei(**options: object) -> "models.DecimalField[Any, Any]":
    """An amount of wei; an integer that may exceed 64 bits."""
    return models.DecimalField(max_digits=40, decimal_places=0, **options)  # type: ignore[arg-type]


def one_of(values: type[StrEnum], **options: object) -> "models.CharField[Any, Any]":
    """A word of an enum; pair it with `listed` so that the database holds the same list."""
    return models.CharField(max_length=32, choices=[(v.value, v.value) for v in values], **options)  # type: ignore[arg-type]


def listed(table: str, column: str, values: type[StrEnum]) -> models.CheckConstraint:
    return models.CheckConstraint(
        condition=models.Q(**{f"{column}__in": sorted(v.value for v in values)}),
        name=f"ck_{table}_{column}",
    )
