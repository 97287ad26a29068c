"""Lists of the panel: pages, filters and searches whose cost does not grow with the table."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import OperationalError
from django.db.models import BinaryField, Q, QuerySet
from django.http import HttpRequest
from psycopg.errors import QueryCanceled
from unfold.views import ChangeList

from execution_app.engine.waiting import database_now
from ops.panel import halving
from ops.panel.home.box import bounded

log = structlog.get_logger(__name__)

PAGES = 200  # further back one narrows the list: a page costs what all before it cost
FOUND = 1_000  # rows that one search finds of a kind
WITHIN_MS = 3_000
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Uncounted(Paginator):  # type: ignore[type-arg]
    """One page of a list and whether there is another: reads a row more than it shows, and counts nothing.

    `count` is how many rows are known by then.
    """

    template_name = "panel/pages.html"

    def __init__(self, rows: "QuerySet[Any]", per_page: int, number: int) -> None:
        super().__init__(rows, per_page)
        self.number = number

    @cached_property
    def begin(self) -> int:
        return (self.number - 1) * self.per_page

    @cached_property
    def read(self) -> list[Any]:
        return list(self.object_list[self.begin : self.begin + self.per_page + 1])

    @cached_property
    def count(self) -> int:
        return self.begin + len(self.read)

    @property
    def shown(self) -> list[Any]:
        return self.read[: self.per_page]

    @property
    def has_next(self) -> bool:
        return len(self.read) > self.per_page

    @property
    def is_last_allowed(self) -> bool:
        return self.number >= PAGES

    @property
    def first_number(self) -> int:
        return self.begin + 1

    @property
    def last_number(self) -> int:
        return self.begin + len(self.shown)


class Narrow(ChangeList):  # type: ignore[misc]
    """A list that is read within WITHIN_MS, or says that it has to be narrowed."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> "QuerySet[Any]":
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        # Signed bytes and calldata are on the row's own page.
        return rows.defer(
            *(field.name for field in self.opts.concrete_fields if isinstance(field, BinaryField))
        )

    def get_results(self, request: HttpRequest) -> None:
        if not 1 <= self.page_num <= PAGES:
            raise IncorrectLookupParameters
        pages = Uncounted(self.queryset, self.list_per_page, self.page_num)
        try:
            with bounded(WITHIN_MS):
                pages.read  # noqa: B018  (read here, within the limit)
        except OperationalError as problem:
            if not isinstance(problem.__cause__, QueryCanceled):
                raise
            log.warning(
                "a list was not read", list=self.opts.label, query=request.META.get("QUERY_STRING", "")
            )
            messages.error(
                request,
                f"Not found within {WITHIN_MS / 1000:g} s. Narrow it: by time, or by a whole key, hash or id.",
            )
            pages.read = []
        self.paginator = pages
        self.result_count = pages.count
        self.result_list = pages.shown
        self.multi_page = pages.number > 1 or pages.has_next
        # The theme tells how many there are in all where these two differ, and nobody has counted.
        self.show_full_result_count, self.full_result_count = False, pages.count
        self.can_show_all, self.show_admin_actions = False, bool(pages.read)


class When(SimpleListFilter):
    """The newest rows only. Over a long table `by_id` finds the place by halving; others have an index or are short."""

    title, parameter_name = "when", "when"
    field, by_id = "", False

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> Sequence[tuple[str, str]]:  # noqa: ARG002
        return (("hour", "last hour"), ("day", "since 00:00 UTC"), ("week", "7 days"), ("month", "30 days"))

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":  # noqa: ARG002
        since = _since(self.value(), database_now())
        if since is None:
            return queryset
        rows = queryset.filter(**{f"{self.field}__gte": since})
        if not self.by_id:
            return rows
        return rows.filter(pk__gte=halving.first_at(queryset.model.objects.all(), self.field, since))


def _since(word: str | None, now: datetime) -> datetime | None:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {"hour": now - HOUR, "day": midnight, "week": now - 7 * DAY, "month": now - 30 * DAY}.get(
        word or ""
    )


def when(field: str, *, by_id: bool = False) -> type[When]:
    """By a column of times."""
    return type("WhenOf", (When,), {"field": field, "by_id": by_id})


class Words(SimpleListFilter):
    """One of the words that a column may hold, known without asking the table for all of them."""

    column = ""
    words: Callable[[], Iterable[str]] = staticmethod(tuple)

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> Sequence[tuple[str, str]]:  # noqa: ARG002
        return [(word, word) for word in self.words()]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":  # noqa: ARG002
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


def words(column: str, known: Iterable[str] | Callable[[], Iterable[str]]) -> type[Words]:
    """By a column whose words are those of an enum, or of a setting."""
    told = staticmethod(known if not isinstance(known, Iterable) else lambda: [str(word) for word in known])
    title = column.replace("_", " ")
    members = {"title": title, "parameter_name": f"{column}__exact", "column": column, "words": told}
    return type("WordsOf", (Words,), members)


def symbols() -> Iterable[str]:
    return sorted(settings.ENVIRONMENT.symbols)


def found(rows: "QuerySet[Any]", lookups: Sequence[str], asked: str) -> "QuerySet[Any]":
    """Rows that one of these lookups finds, each by its own index: one question with OR between them would use none."""
    keys: set[Any] = set()
    for lookup in lookups:
        try:
            condition = Q(**{lookup: asked})
            keys.update(
                rows.model.objects.filter(condition).order_by("-pk").values_list("pk", flat=True)[:FOUND]
            )
        except (ValueError, ValidationError):
            continue  # a word that no number of this column is
    return rows.filter(pk__in=keys)
