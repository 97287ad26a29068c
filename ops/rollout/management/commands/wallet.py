"""`manage.py wallet create|check`: the delegate key that signs for a trader."""

import json
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction

from execution_app import audit
from execution_app.errors import Refused
from execution_app.models import Trader, Wallet
from execution_app.node import signers
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.states import AuditAction
from ops.rollout import wallet_check
from ops.rollout.findings import report

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = (
        "create: make a trader's delegate key, stored encrypted under SIGNER_KEY_DIR; only its address is shown. "
        "check: ask the chain whether the wallet can trade and name the next step (exit code 1 until it can)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, words in (
            ("create", "make the delegate key; where there is one, its address is shown again"),
            ("check", "gas, USDC, allowance, delegation and nonce, and the next step"),
        ):
            part = verbs.add_parser(verb, help=words)
            part.add_argument("tg_user_id", type=int, help="the trader's Telegram id")
            part.add_argument("--json", action="store_true", help="one JSON object instead of lines")
            part.add_argument("--reason", default="", help="why, for the audit log")

    def handle(self, *_args: Any, **options: Any) -> None:
        trader = Trader.objects.filter(tg_user_id=options["tg_user_id"]).first()
        if trader is None:
            raise CommandError(f"no trader {options['tg_user_id']}: manage.py trader add comes first")
        if options["verb"] == "create":
            with audit.acting(audit.operator(options["reason"])):
                self._create(trader, options["json"])
        else:
            self._check(trader, options["json"])

    def _create(self, trader: Trader, as_json: bool) -> None:
        environment = settings.ENVIRONMENT
        wallet = Wallet.objects.filter(trader=trader).first()
        created = wallet is None
        if wallet is None:
            if environment.is_production and not environment.signer_key_dir.is_absolute():
                raise CommandError("SIGNER_KEY_DIR must be an absolute path: these keys are for real money")
            wallet = self._with_new_key(trader)
            log.info("wallet created", trader=trader.tg_user_id, wallet=wallet.address)
        elif wallet.chain_id != environment.chain_id:
            raise CommandError(f"the wallet of trader {trader.tg_user_id} is on chain {wallet.chain_id}")
        if as_json:
            body = {
                "tg_user_id": trader.tg_user_id,
                "chain_id": wallet.chain_id,
                "address": wallet.address,
                "created": created,
            }
            self.stdout.write(json.dumps(body))
            return
        self.stdout.write(f"wallet {wallet.address} {'created' if created else 'was there already'}")
        self.stdout.write(f"next: back up SIGNER_KEY_DIR, then manage.py wallet check {trader.tg_user_id}")

    def _with_new_key(self, trader: Trader) -> Wallet:
        """Key first, row second: a crash in between leaves a key that nobody uses, never a row without one."""
        environment = settings.ENVIRONMENT
        try:
            address = signers.create_key()
            with transaction.atomic():
                wallet = Wallet.objects.create(
                    trader=trader,
                    chain_id=environment.chain_id,
                    address=address,
                    max_in_flight=environment.max_in_flight,
                )
                made = {
                    "trader": trader.tg_user_id,
                    "chain_id": wallet.chain_id,
                    "next_nonce": wallet.next_nonce,
                }
                audit.record(AuditAction.WALLET_CREATED, f"wallet {address}", after=made)
                return wallet
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        except OSError as error:
            raise CommandError(f"the key cannot be stored in SIGNER_KEY_DIR ({error.strerror})") from None
        except IntegrityError:
            raise CommandError("somebody else has just made this trader's wallet; run it again") from None

    def _check(self, trader: Trader, as_json: bool) -> None:
        wallet = Wallet.objects.filter(trader=trader, chain_id=settings.ENVIRONMENT.chain_id).first()
        if wallet is None:
            step = f"manage.py wallet create {trader.tg_user_id}"
            raise CommandError(f"trader {trader.tg_user_id} has no wallet on this chain: {step}")
        try:
            findings = wallet_check.examine(trader, wallet)
        except (RpcFault, NodeError, ValueError) as error:
            raise CommandError(f"the chain does not answer: {error}; manage.py preflight says more") from None
        facts = {"tg_user_id": trader.tg_user_id, "trader": trader.address, "wallet": wallet.address}
        report(self.stdout, findings, as_json=as_json, facts=facts)
