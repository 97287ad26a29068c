"""Labels are bounded whatever is asked, and every answer has an id."""

import pytest
from django.test import Client
from prometheus_client import REGISTRY


def count(route: str, status: str, method: str) -> float:
    labels = {"route": route, "status": status, "method": method}
    return REGISTRY.get_sample_value("vanta_http_requests_total", labels) or 0.0


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/health/live", "GET", ("/health/live", "200", "GET")),
        ("/health/live", "POST", ("/health/live", "405", "POST")),
        ("/health/live", "BREW", ("/health/live", "405", "OTHER")),
        ("/nobody/knows/this", "GET", ("unmatched", "404", "GET")),
        ("/admin/emergency-stop", "POST", ("/admin/emergency-stop", "401", "POST")),
        ("/static/panel/panel.css", "GET", ("/static/*", "200", "GET")),
    ],
)
def test_the_route_is_the_pattern_never_the_path(
    client: Client, path: str, method: str, expected: tuple[str, str, str]
) -> None:
    before = count(*expected)
    client.generic(method, path)
    assert count(*expected) == before + 1


def test_a_signal_id_never_becomes_a_label(client: Client, database: None) -> None:
    client.get("/signals/drill/secret-id-42")
    labels = [sample.labels for family in REGISTRY.collect() for sample in family.samples]
    assert not [label for label in labels if any("secret-id-42" in value for value in label.values())]


def test_a_sane_request_id_is_echoed_and_another_replaced(client: Client) -> None:
    assert client.get("/health/live", headers={"X-Request-Id": "req-1.A_b"})["X-Request-Id"] == "req-1.A_b"
    for bad in ("x" * 65, "a b", "a\u00e9", "<script>", ""):
        made = client.get("/health/live", headers={"X-Request-Id": bad})["X-Request-Id"]
        assert made != bad
        assert len(made) == 32
