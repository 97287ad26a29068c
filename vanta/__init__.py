"""The roof: settings, Celery app and beat schedule, URLs, WSGI. Imports all, is imported by none."""

__version__ = "0.1.0"
