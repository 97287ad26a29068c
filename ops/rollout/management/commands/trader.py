"""`manage.py trader add|list|enable|disable`: whose collateral is traded with."""

import json
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction
from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.models import Trader

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Add, list, enable and disable traders. A disabled trader's signals are rejected; what is open stays open."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add", help="a new trader; repeating it with the same address changes nothing")
        add.add_argument("tg_user_id", type=int, help="the Telegram id by which signals name the trader")
        add.add_argument("--address", required=True, help="the trader's own address, which holds the USDC")
        add.add_argument("--label", default="", help="a name for the pages")
        for verb in ("enable", "disable"):
            verbs.add_parser(verb, help=f"{verb} a trader").add_argument("tg_user_id", type=int)
        verbs.add_parser("list", help="all traders and their wallets")
        for part in verbs.choices.values():
            part.add_argument("--json", action="store_true", help="JSON instead of lines")
            part.add_argument("--reason", default="", help="why, for the audit log")

    def handle(self, *_args: Any, **options: Any) -> None:
        verb: str = options["verb"]
        if verb == "list":
            self._show(
                [self._row(trader) for trader in Trader.objects.order_by("tg_user_id")], options["json"]
            )
            return
        with audit.acting(audit.operator(options["reason"])):
            trader = (
                self._add(options) if verb == "add" else self._switch(options["tg_user_id"], verb == "enable")
            )
        self._show([self._row(trader)], options["json"])

    def _add(self, options: dict[str, Any]) -> Trader:
        tg_user_id, address = options["tg_user_id"], checked_address(options["address"])
        if not 0 < tg_user_id < 2**63:
            raise CommandError("a Telegram id is a positive 64-bit number")
        try:
            with transaction.atomic():
                trader, created = Trader.objects.get_or_create(
                    tg_user_id=tg_user_id, defaults={"address": address, "label": options["label"][:64]}
                )
                if created:
                    found = {"address": address, "label": trader.label, "enabled": trader.enabled}
                    audit.record(AuditAction.TRADER_ADDED, f"trader {tg_user_id}", after=found)
        except IntegrityError:
            raise CommandError(f"{address} belongs to another trader") from None
        if trader.address != address:
            raise CommandError(
                f"trader {tg_user_id} exists with address {trader.address}; that does not change"
            )
        if created:
            log.info("trader added", trader=tg_user_id, address=address)
        return trader

    def _switch(self, tg_user_id: int, enabled: bool) -> Trader:
        with transaction.atomic():
            trader = Trader.objects.select_for_update().filter(tg_user_id=tg_user_id).first()
            if trader is None:
                raise CommandError(f"no trader {tg_user_id}")
            if trader.enabled is enabled:
                return trader
            trader.enabled = enabled
            trader.save(update_fields=["enabled"])
            audit.record(
                AuditAction.TRADER_ENABLED if enabled else AuditAction.TRADER_DISABLED,
                f"trader {tg_user_id}",
                before={"enabled": not enabled},
                after={"enabled": enabled},
            )
        log.info("trader switched", trader=tg_user_id, enabled=enabled)
        return trader

    def _row(self, trader: Trader) -> dict[str, Any]:
        wallet = getattr(trader, "wallet", None)
        return {
            "tg_user_id": trader.tg_user_id,
            "label": trader.label,
            "address": trader.address,
            "enabled": trader.enabled,
            "wallet": wallet.address if wallet else None,
        }

    def _show(self, rows: list[dict[str, Any]], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            words = "enabled" if row["enabled"] else "disabled"
            wallet = row["wallet"] or f"none yet: manage.py wallet create {row['tg_user_id']}"
            self.stdout.write(
                f"{row['tg_user_id']}  {words}  {row['address']}  wallet {wallet}  {row['label']}"
            )


def checked_address(text: str) -> str:
    """With its checksum. Raises CommandError for what is no address or was mistyped."""
    if not text.startswith("0x") or not is_hex_address(text):
        raise CommandError("an address is 0x and 40 hex digits")
    if not int(text, 16):
        raise CommandError("the zero address is nobody's")
    if text != text.lower() and not is_checksum_address(text):
        raise CommandError("the address has a wrong checksum: it was mistyped")
    return str(to_checksum_address(text))
