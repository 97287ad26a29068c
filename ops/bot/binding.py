"""/bind and /unbind: that somebody holds the address they trade from, shown by a signature of their own wallet.

Nothing here asks for a key. A challenge is good once and for minutes; its text names the address, the person, the
chain and whoever asks, so that it is worth nothing anywhere else.
"""

import secrets

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

from execution_app import audit, people
from execution_app.audit_words import AuditAction, AuditOrigin
from execution_app.engine.waiting import database_now
from execution_app.errors import Refused, Retryable
from execution_app.models import Position, Trader, TxIntent
from execution_app.node import ownership
from execution_app.states import PositionState
from ops.bot import binding_pages, engine_words, words
from ops.bot.models import TelegramBinding, TelegramPage, TelegramUser

MOST_WORDS = 2


def bind(person: TelegramUser, arguments: list[str]) -> str:
    """With an address a challenge, with its signature too the proof; with neither how it stands."""
    if not arguments:
        return _standing(person) or binding_pages.offer(person) or words.NOT_BOUND
    if len(arguments) > MOST_WORDS:
        return words.USAGE.format(usage=words.BIND_USAGE)
    try:
        address = read_address(arguments[0])
        if len(arguments) == 1:
            return _challenge(person, address)
        said = _prove(person, address, read_signature(arguments[1]))
        return f"{said}\n{words.begun(words.SEE_WALLET)}."
    except ValueError as problem:
        return words.safe(problem)
    except (Refused, Retryable) as problem:
        return words.REFUSED.format(why=engine_words.said(problem))


def settle(person: TelegramUser, row: TelegramPage) -> str:
    """What was signed on a page, as if it had been sent by /bind. Raises Refused, or Retryable where no node says."""
    address = read_address(row.address)
    _refuse_other(person, address)
    TelegramBinding.objects.get_or_create(
        nonce=row.nonce,
        defaults={
            "tg_user_id": person.tg_user_id,
            "address": address,
            "domain": row.domain,
            "chain_id": row.chain_id,
            "expires_at": row.expires_at,
        },
    )
    return _prove(person, address, read_signature(row.signature))


def unbind(person: TelegramUser, _arguments: list[str]) -> str:
    """End the binding and disable the trader; what is open has to be closed before, since nothing is afterwards."""
    with transaction.atomic(durable=True):
        people.stand_alone(person.tg_user_id)
        trader = Trader.objects.select_for_update().filter(tg_user_id=person.tg_user_id).first()
        row = _current(person)
        if trader is None or row is None:
            return words.NOT_BOUND
        positions = Position.objects.filter(trader=trader, state=PositionState.OPEN).count()
        orders = TxIntent.objects.filter(trader=trader, settled_at=None).count()
        if positions or orders:
            return words.REFUSED.format(why=words.STILL_OPEN.format(positions=positions, orders=orders))
        TelegramBinding.objects.filter(pk=row.pk).update(ended_at=Now())
        was = trader.enabled
        Trader.objects.filter(pk=trader.pk).update(enabled=False)
        audit.record(
            AuditAction.TELEGRAM_UNBOUND,
            f"trader {trader.tg_user_id}",
            before={"address": row.address, "enabled": was},
            after={"enabled": False},
            who=_who(person),
        )
    return words.UNBOUND.format(user_id=person.tg_user_id)


def text_of(row: TelegramBinding | TelegramPage, address: str = "") -> str:
    """What has to be signed, letter for letter; a page's row may have no address yet."""
    return words.CHALLENGE.format(
        domain=row.domain,
        address=address or row.address,
        user_id=row.tg_user_id,
        chain_id=row.chain_id,
        nonce=row.nonce,
        expires=row.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _standing(person: TelegramUser) -> str:
    row = _current(person)
    if row is None:
        return ""
    return words.BOUND_ALREADY.format(address=words.code(row.address))


def _challenge(person: TelegramUser, address: str) -> str:
    """A new one takes the place of those that are open, so one text at a time can be signed."""
    _refuse_other(person, address)
    row = _current(person)
    if row is not None and row.address == address:
        return words.BOUND_ALREADY.format(address=words.code(address))
    with transaction.atomic():
        TelegramBinding.objects.filter(tg_user_id=person.tg_user_id, proved_at=None).delete()
        row = TelegramBinding.objects.create(
            tg_user_id=person.tg_user_id,
            address=address,
            nonce=secrets.token_hex(binding_pages.NONCE_BYTES),
            domain=binding_pages.domain(),
            chain_id=settings.ENVIRONMENT.chain_id,
            expires_at=database_now().replace(microsecond=0) + binding_pages.GOOD_FOR,
        )
    minutes = int(binding_pages.GOOD_FOR.total_seconds()) // 60
    return words.SIGN_THIS.format(address=words.safe(address), text=text_of(row), minutes=minutes)


def _prove(person: TelegramUser, address: str, signature: bytes) -> str:
    """The node may be asked, so that comes before the transaction; the challenge is used up within it."""
    current = _current(person)
    if current is not None and current.address == address:
        return words.BOUND.format(address=words.code(address))
    _refuse_other(person, address)
    mine = TelegramBinding.objects.filter(tg_user_id=person.tg_user_id, address=address, proved_at=None)
    row = mine.filter(expires_at__gt=Now()).order_by("-id").first()
    if row is None:
        raise Refused(words.NO_CHALLENGE.format(address=address))
    ownership.require(address, text_of(row), signature)
    try:
        with transaction.atomic(durable=True):
            trader = _settle(person, row)
    except IntegrityError as problem:
        raise Refused(words.ADDRESS_TAKEN) from problem
    said = words.BOUND.format(address=words.code(address))
    return said if trader.enabled else said + words.STILL_DISABLED.format(user_id=person.tg_user_id)


def _settle(person: TelegramUser, row: TelegramBinding) -> Trader:
    """The proof, and the trader where there was none. Raises Refused, or IntegrityError where another holds it."""
    used = TelegramBinding.objects.filter(pk=row.pk, proved_at=None, expires_at__gt=Now())
    if not used.update(proved_at=Now()):
        raise Refused(words.NO_CHALLENGE.format(address=row.address))
    trader, is_new = Trader.objects.get_or_create(
        tg_user_id=person.tg_user_id, defaults={"address": row.address, "label": person.label}
    )
    if trader.address != row.address:
        raise Refused(words.OTHER_ADDRESS.format(address=trader.address))
    told = {"address": row.address, "enabled": trader.enabled}
    who = _who(person)
    if is_new:
        audit.record(AuditAction.TRADER_ADDED, f"trader {trader.tg_user_id}", after=told, who=who)
    audit.record(AuditAction.TELEGRAM_BOUND, f"trader {trader.tg_user_id}", after=told, who=who)
    return trader


def _current(person: TelegramUser) -> TelegramBinding | None:
    return current_of(person.tg_user_id)


def current_of(tg_user_id: int) -> TelegramBinding | None:
    """The proved binding of this person, if there is one."""
    proved = TelegramBinding.objects.filter(tg_user_id=tg_user_id, proved_at__isnull=False, ended_at=None)
    return proved.first()


def _refuse_other(person: TelegramUser, address: str) -> None:
    """Positions are the address's, so a trader keeps theirs."""
    trader = Trader.objects.filter(tg_user_id=person.tg_user_id).first()
    if trader is not None and trader.address != address:
        raise Refused(words.OTHER_ADDRESS.format(address=trader.address))
    if Trader.objects.filter(address__iexact=address).exclude(tg_user_id=person.tg_user_id).exists():
        raise Refused(words.ADDRESS_TAKEN)


def read_address(word: str) -> str:
    """With its checksum. Raises ValueError, in words for people."""
    if not word.startswith("0x") or not is_hex_address(word):
        raise ValueError(words.NO_ADDRESS)
    if word != word.lower() and not is_checksum_address(word):
        raise ValueError(words.MISTYPED)
    return str(to_checksum_address(word))


def read_signature(word: str) -> bytes:
    """Raises ValueError, in words for people."""
    try:
        found = bytes.fromhex(word.removeprefix("0x"))
    except ValueError:
        raise ValueError(words.NO_SIGNATURE) from None
    if not found or not word.startswith("0x"):
        raise ValueError(words.NO_SIGNATURE)
    return found


def _who(person: TelegramUser) -> audit.Who:
    return audit.Who(person.name, AuditOrigin.TELEGRAM, f"telegram {person.tg_user_id}")
