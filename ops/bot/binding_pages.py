"""Links to the page where somebody signs with whatever wallet their browser has; what is signed there comes back by a row."""

import secrets
from datetime import timedelta
from hashlib import sha256

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from execution_app.engine.waiting import database_now
from ops.bot import words
from ops.bot.models import TelegramPage, TelegramUser

GOOD_FOR = timedelta(minutes=15)
KEPT = timedelta(days=30)
NONCE_BYTES = 16
TOKEN_BYTES = 24
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def offer(person: TelegramUser) -> str:
    """A new link, in the place of whatever link was open; blank where there is no address for the page."""
    base = settings.ENVIRONMENT.telegram_pages_url
    if not base:
        return ""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with transaction.atomic():
        TelegramPage.objects.filter(tg_user_id=person.tg_user_id, answered_at=None).delete()
        TelegramPage.objects.create(
            token_sha256=hashed(token),
            tg_user_id=person.tg_user_id,
            language=words.language(),
            nonce=secrets.token_hex(NONCE_BYTES),
            domain=domain(),
            chain_id=settings.ENVIRONMENT.chain_id,
            expires_at=database_now().replace(microsecond=0) + GOOD_FOR,
        )
    minutes = int(GOOD_FOR.total_seconds()) // 60
    return words.BIND_BY_PAGE.format(link=words.safe(f"{base.rstrip('/')}/bind/{token}"), minutes=minutes)


def open_page(token: str) -> TelegramPage | None:
    """The row of a link that may still be used. Raises django.db.Error."""
    rows = TelegramPage.objects.filter(token_sha256=hashed(token), answered_at=None, expires_at__gt=Now())
    return rows.first()


def language_of(token: str) -> str:
    """In which a link that is over was made; blank where nobody knows it any more. Raises django.db.Error."""
    row = TelegramPage.objects.filter(token_sha256=hashed(token)).first()
    return "" if row is None else row.language


def answer(page: TelegramPage, address: str, signature: bytes) -> bool:
    """Take down what was signed; False where another answer came first, or its time is over. Raises django.db.Error."""
    rows = TelegramPage.objects.filter(pk=page.pk, answered_at=None, expires_at__gt=Now())
    return bool(rows.update(address=address, signature="0x" + signature.hex(), answered_at=Now()))


def forget() -> int:
    """Drop links whose time is long over; returns how many. Raises django.db.Error."""
    old = Q(answered_at=None) | Q(settled_at__isnull=False)
    return TelegramPage.objects.filter(old, expires_at__lt=Now() - KEPT).delete()[0]


def hashed(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def domain() -> str:
    """The first name by which this stack is reached that is not this machine's own."""
    named = [host for host in settings.ENVIRONMENT.hosts if host not in LOOPBACK]
    return (named or ["localhost"])[0]
