"""Every route of the stack."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from ops.api import refusals
from ops.api.views import docs, openapi
from ops.bot.page import bind
from ops.panel.views import emergency_stop
from ops.watch.views import health, live, metrics, ready
from signals_app.views import signals, trace

admin.autodiscover()

urlpatterns: list[URLPattern | URLResolver] = [
    path("signals", signals),
    path("signals/<str:source>/<str:signal_id>", trace),
    path("health", health),
    path("health/live", live),
    path("health/ready", ready),
    path("metrics", metrics),
    path("api/openapi.json", openapi, name="openapi"),
    path("api/docs", docs, name="docs"),
    path("bind/<str:token>", bind),
    path("admin/emergency-stop", emergency_stop),
    path("admin/", include("ops.panel.urls")),
    path("admin/", admin.site.urls),
]

handler400 = refusals.bad_request
handler403 = refusals.forbidden
handler404 = refusals.not_found
handler500 = refusals.server_error
