"""What the HTTP door counts."""

from prometheus_client import Counter, Histogram

HTTP_REQUESTS = Counter(
    "vanta_http_requests_total", "HTTP answers by status, route and method.", ["status", "route", "method"]
)
HTTP_DURATION = Histogram(
    "vanta_http_request_duration_seconds",
    "Time from the first middleware to the answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
