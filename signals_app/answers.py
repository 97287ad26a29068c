"""JSON as the contract writes it: without spaces, so that a script may look for `"status":"ok"` as it stands."""

from typing import Any

from django.http import JsonResponse


class JsonAnswer(JsonResponse):
    """A JSON body without needless spaces."""

    def __init__(self, data: Any, **options: Any) -> None:
        super().__init__(data, json_dumps_params={"separators": (",", ":")}, **options)
