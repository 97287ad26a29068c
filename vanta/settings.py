"""Django's settings, from the environment alone (see vanta.environment)."""

import os
import socket
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from prometheus_client import values

from vanta import __version__, environment, logs

ENVIRONMENT = environment.current()
BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = __version__
if ENVIRONMENT.prometheus_multiproc_dir:
    # The metrics library opens files there as soon as a counter is declared.
    Path(ENVIRONMENT.prometheus_multiproc_dir).mkdir(parents=True, exist_ok=True)
    # Containers that share the folder all count their processes from 1, so a pid alone names no file.
    _MACHINE = socket.gethostname().replace("_", "-")
    values.ValueClass = values.MultiProcessValue(lambda: f"{_MACHINE}-{os.getpid()}")  # type: ignore[no-untyped-call]
else:
    # Blank means unset; the library would take it for the current folder.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
REHEARSAL = ENVIRONMENT.chain_id == environment.REHEARSAL_CHAIN_ID

SECRET_KEY = ENVIRONMENT.secret_key.get_secret_value()
DEBUG = False
ALLOWED_HOSTS = ENVIRONMENT.hosts
ROOT_URLCONF = "vanta.urls"
WSGI_APPLICATION = "vanta.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en-gb"
FORMAT_MODULE_PATH = ["ops.panel.formats"]

INSTALLED_APPS = [
    "vanta",
    "execution_app",
    "signals_app",
    "ops.api",
    "ops.panel",
    "ops.audit",
    "ops.watch",
    "ops.rollout",
    "ops.bot",
    "ops.rehearsal",
    "unfold",
    # Without autodiscovery: only the webhook, which reads vanta.urls, pays for importing the pages.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "axes",
]

MIDDLEWARE = [
    "ops.watch.middleware.HttpMeter",
    "ops.panel.whence.Whence",
    "ops.panel.content_policy.ContentPolicy",
    "signals_app.body.FewForms",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "ops.panel.sessions.ShortSession",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# Ten wrong passwords by one name, or from one address behind TRUSTED_PROXIES, shut it out for 15 minutes.
AXES_FAILURE_LIMIT = 10
AXES_LOCKOUT_PARAMETERS = ["username", "ip_address"]
AXES_COOLOFF_TIME = timedelta(minutes=15)
# Whoever goes on trying keeps nobody shut out by that.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "ops.panel.lockout.address"
AXES_USERNAME_CALLABLE = "ops.panel.lockout.username"
AXES_LOCKOUT_CALLABLE = "ops.panel.lockout.refuse"
AXES_DISABLE_ACCESS_LOG = True  # the audit log has logins
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

_database = urlsplit(ENVIRONMENT.database_url.get_secret_value())
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(_database.path.lstrip("/")),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "HOST": _database.hostname or "",
        "PORT": str(_database.port or 5432),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # A slow database must answer 503, not hang a caller.
            "connect_timeout": 2,
            "tcp_user_timeout": 5000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "options": "-c lock_timeout=5000 -c statement_timeout=15000 "
            "-c idle_in_transaction_session_timeout=30000 -c timezone=UTC",
            # sslmode and the like, from the URL.
            **dict(parse_qsl(_database.query)),
        },
    }
}

REDIS_URL = ENVIRONMENT.redis_url.get_secret_value()

STATIC_URL = "/static/"
STATIC_ROOT = None if REHEARSAL else BASE_DIR / "var" / "static"
# The rehearsal stack serves static files from the packages; a deployment collects them.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
SESSION_COOKIE_AGE = 30 * 60  # after what somebody last did, see ops.panel.sessions
SESSION_COOKIE_HTTPONLY = True
# The rehearsal stack speaks plain HTTP on loopback; everything else is behind TLS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not REHEARSAL
SECURE_SSL_REDIRECT = False  # probes and Prometheus come by plain HTTP from inside; TLS ends at the proxy
SECURE_HSTS_SECONDS = 0 if REHEARSAL else 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not REHEARSAL
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENVIRONMENT.trusted_proxies else None
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # SECURE_SSL_REDIRECT, see above
X_FRAME_OPTIONS = "DENY"

UNFOLD = {
    "SITE_TITLE": "Vanta",
    "SITE_HEADER": "Vanta",
    "SHOW_VIEW_ON_SITE": False,
    "SITE_URL": None,
    # A function: the theme tries to import what is a string, at every request.
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: f"{STATIC_URL}panel/icon.svg"}
    ],
}

LOGGING_CONFIG = None
logs.configure(ENVIRONMENT.log_level, ENVIRONMENT.log_format, sys.stderr, ENVIRONMENT.secrets)
