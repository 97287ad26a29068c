"""The webhook's door: HTTP for signals, health, metrics, stop and admin."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vanta.settings")
application = get_wsgi_application()

# The app registry must be ready for these.
from execution_app import audit  # noqa: E402
from execution_app.gate import watch  # noqa: E402
from vanta import chain_check  # noqa: E402

chain_check.refuse_other_chains()
watch.start("webhook")
audit.note_head()
