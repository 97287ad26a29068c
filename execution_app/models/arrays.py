"""Many rows in one statement, each column an array.

Django writes a parameter for every value of every row, and its INSERT of a batch
took longer than all of the batch's signatures.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


class ArrayInserts(models.QuerySet[Row]):
    """Rows whose `bulk_create` sends one array a column; keys that the database gives stay unknown to the objects."""

    def bulk_create(self, objs: Iterable[Row], *args: Any, **options: Any) -> list[Row]:
        rows = list(objs)
        fields = [field for field in self.model._meta.concrete_fields if not field.primary_key]  # noqa: SLF001
        columns = [[field.pre_save(row, add=True) for row in rows] for field in fields]
        given = [
            (field, column)
            for field, column in zip(fields, columns, strict=True)
            # What the database says by default for every row is left to it.
            if not all(isinstance(value, models.expressions.DatabaseDefault) for value in column)
        ]
        is_plain = not any(hasattr(value, "resolve_expression") for _, column in given for value in column)
        if not rows or args or options or not is_plain:
            return super().bulk_create(rows, *args, **options)
        names = ", ".join(f'"{field.column}"' for field, _ in given)
        arrays = ", ".join(kind_of(field) for field, _ in given)
        with connection.cursor() as cursor:
            cursor.execute(
                f'INSERT INTO "{self.model._meta.db_table}" ({names}) SELECT * FROM unnest({arrays})',  # noqa: S608, SLF001
                [stored(field, column) for field, column in given],
            )
        return rows


def rows_of(model: type[Row]) -> ArrayInserts[Row]:
    return ArrayInserts(model=model)


def kind_of(field: Any) -> str:
    """The placeholder of a column's array. Without a length: to cast to one would cut off what the column then refuses."""
    return f"%s::{str(field.db_type(connection)).partition('(')[0]}[]"


def stored(field: Any, values: Sequence[Any]) -> list[Any]:
    """As the column holds them; all of one kind, since an array takes no other."""
    if isinstance(field, models.BinaryField) or _are_stored(field, values):
        return list(values)
    return [None if value is None else field.get_db_prep_save(value, connection) for value in values]


# What such a column takes as it is. To ask the field about each value takes longer than to write it.
_PLAIN: dict[type, type] = {
    models.CharField: str,
    models.TextField: str,
    models.BooleanField: bool,
    models.IntegerField: int,
    models.BigIntegerField: int,
    models.SmallIntegerField: int,
    models.ForeignKey: int,
    models.OneToOneField: int,
}


def _are_stored(field: Any, values: Sequence[Any]) -> bool:
    """Whether they are of the one type that the column's array holds, or none; no subclass, which may be written otherwise."""
    plain = _PLAIN.get(type(field))
    return plain is not None and all(value is None or type(value) is plain for value in values)
