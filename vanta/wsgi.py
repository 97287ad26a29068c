"""The webhook's door: HTTP for signals, health, metrics, stop and admin."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
application = get_wsgi_application()

from execution_app import audit  # noqa: E402
from execution_app.gate import watch  # noqa: E402  (the app registry must be ready)

watch.start("webhook")
audit.note_head()
