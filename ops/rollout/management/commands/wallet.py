"""`manage.py wallet create|fund|check|status|adopt|resume|order-lost`: the delegate key that signs for a trader."""

import argparse
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction
from eth_utils.address import is_address, to_checksum_address

from execution_app import audit
from execution_app.audit_words import AuditAction
from execution_app.errors import Refused, Retryable
from execution_app.models import Trader, Wallet
from execution_app.node import signers
from execution_app.node.rpc import NodeError, RpcFault
from execution_app.venues.scales import USDC_DIGITS, to_units
from ops.rehearsal.rpc import NodeRefusedError, NodeUnreachableError, TransactionFailedError
from ops.rollout import funding, wallet_check, wallet_verbs
from ops.rollout.findings import report

log = structlog.get_logger(__name__)

DELEGATION_AT_MOST_DAYS = 90
USDC_BY_DEFAULT = Decimal(50)
# About 25 orders where gas is cheap; on the rehearsal chain it is dearer, and made of nothing.
ETH_BY_DEFAULT = Decimal("0.01")
REHEARSAL_ETH_BY_DEFAULT = Decimal(1)
KEY_WARNING = (
    "Whoever reads this key can trade for the trader: keep it as you keep SIGNER_KEY_DIR, and clear this "
    "terminal. It is not shown again."
)


class Command(BaseCommand):
    help = (
        "create: make a trader's delegate key, stored encrypted under SIGNER_KEY_DIR; only its address is shown. "
        "fund: on the rehearsal chain send gas, USDC and the trader's grants; elsewhere send nothing, write down "
        "who sends what, and end with exit code 1. "
        "check: ask the chain whether the wallet can trade and name the next step (exit code 1 until it can). "
        "status, adopt, resume, order-lost: where chain and database differ (docs/operating.md)."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        parts = {}
        for verb, words in (
            ("create", "make the delegate key; where there is one, its address is shown again"),
            ("fund", "what the wallet needs to trade: sent on chain 31337, written down on every other"),
            ("check", "gas, USDC, allowance, delegation and nonce, and the next step"),
        ):
            part = parts[verb] = verbs.add_parser(verb, help=words, description=words)
            part.add_argument("tg_user_id", type=int, help="the trader's Telegram id")
            part.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        parts["create"].add_argument(
            "--show-key",
            action="store_true",
            help="print the new private key, this once; off by default, and never for a key that exists",
        )
        parts["create"].add_argument(
            "--address",
            default="",
            help="the wallet's address where the signer holds its key already: SIGNER_BACKEND keystore, kms, web3signer",
        )
        parts["fund"].add_argument(
            "--usdc",
            type=_units(USDC_DIGITS),
            default=str(USDC_BY_DEFAULT),
            metavar="AMOUNT",
            help=f"the trader's USDC and the allowance, the most to be lost ({USDC_BY_DEFAULT} by default)",
        )
        eth = REHEARSAL_ETH_BY_DEFAULT if settings.REHEARSAL else ETH_BY_DEFAULT
        parts["fund"].add_argument(
            "--eth",
            type=_units(funding.ETH_DIGITS),
            default=str(eth),
            metavar="AMOUNT",
            help=f"gas money of the wallet ({eth} by default)",
        )
        parts["fund"].add_argument(
            "--days",
            type=_days,
            default=DELEGATION_AT_MOST_DAYS,
            metavar="DAYS",
            help=f"how long the delegation lasts, {DELEGATION_AT_MOST_DAYS} at most and by default",
        )
        for part in parts.values():
            part.add_argument("--reason", default="", help="why, for the audit log")
        wallet_verbs.add_arguments(verbs)

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["verb"] in wallet_verbs.VERBS:
            with audit.acting(audit.operator(options.get("reason", ""))):
                wallet_verbs.run(self.stdout, options)
            return
        trader = Trader.objects.filter(tg_user_id=options["tg_user_id"]).first()
        if trader is None:
            raise CommandError(f"no trader {options['tg_user_id']}: manage.py trader add comes first")
        verbs = {"create": self._create, "fund": self._fund, "check": self._check}
        with audit.acting(audit.operator(options["reason"])):
            verbs[options["verb"]](trader, options)

    def _create(self, trader: Trader, options: dict[str, Any]) -> None:
        environment = settings.ENVIRONMENT
        wallet = Wallet.objects.filter(trader=trader).first()
        key, created = "", wallet is None
        if wallet is None:
            own = environment.signer_backend == "keyfile"
            if own and environment.is_production and not environment.signer_key_dir.is_absolute():
                raise CommandError("SIGNER_KEY_DIR must be an absolute path: these keys are for real money")
            wallet, key = self._with_new_key(trader) if own else self._with_key_elsewhere(trader, options)
            log.info("wallet created", trader=trader.tg_user_id, wallet=wallet.address)
        elif wallet.chain_id != environment.chain_id:
            raise CommandError(f"the wallet of trader {trader.tg_user_id} is on chain {wallet.chain_id}")
        elif options["address"] and options["address"].lower() != wallet.address.lower():
            raise CommandError(f"trader {trader.tg_user_id} has the wallet {wallet.address}, and no other")
        elif options["show_key"]:
            raise CommandError(f"{wallet.address} was there already; a key is shown at its birth or never")
        body = {
            "tg_user_id": trader.tg_user_id,
            "chain_id": wallet.chain_id,
            "address": wallet.address,
            "created": created,
        }
        if options["show_key"]:
            self.stderr.write(KEY_WARNING)
            body["private_key"] = key
        if options["json"]:
            self.stdout.write(json.dumps(body))
            return
        self.stdout.write(f"wallet {wallet.address} {'created' if created else 'was there already'}")
        if options["show_key"]:
            self.stdout.write(f"private key, shown only now: {key}")
        self.stdout.write(f"next: back up SIGNER_KEY_DIR, then manage.py wallet check {trader.tg_user_id}")

    def _with_new_key(self, trader: Trader) -> tuple[Wallet, str]:
        """Key first, row second: a crash in between leaves a key that nobody uses, never a row without one."""
        try:
            account = signers.make_key()
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        except OSError as error:
            raise CommandError(f"the key cannot be stored in SIGNER_KEY_DIR ({error.strerror})") from None
        return self._row(trader, account.address), "0x" + bytes(account.key).hex()

    def _with_key_elsewhere(self, trader: Trader, options: dict[str, Any]) -> tuple[Wallet, str]:
        """The row of a key that the signer holds and never shows."""
        if options["show_key"]:
            raise CommandError("the key is the signer's; it is never shown")
        if not is_address(options["address"]):
            raise CommandError(
                f"{settings.ENVIRONMENT.signer_backend} makes its own keys: give the --address of one"
            )
        address = to_checksum_address(options["address"])
        try:
            signers.require_key(address)
        except (Refused, Retryable) as problem:
            raise CommandError(str(problem)) from None
        return self._row(trader, address), ""

    def _row(self, trader: Trader, address: str) -> Wallet:
        environment = settings.ENVIRONMENT
        try:
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
        except IntegrityError:
            raise CommandError("somebody else has just made this wallet; run it again") from None
        return wallet

    def _fund(self, trader: Trader, options: dict[str, Any]) -> None:
        wallet = self._wallet(trader)
        try:
            plan = funding.plan(
                trader,
                wallet,
                wallet_wei=options["eth"],
                usdc_units=options["usdc"],
                days=options["days"],
            )
            if settings.REHEARSAL:
                funding.carry_out(plan)
        except (NodeUnreachableError, NodeRefusedError, TransactionFailedError, ValueError) as error:
            raise CommandError(f"wallet {wallet.address} is not funded: {error}") from None
        body = {"funded": settings.REHEARSAL, "tg_user_id": trader.tg_user_id, **funding.facts(plan)}
        if settings.REHEARSAL:
            log.info("wallet funded", trader=trader.tg_user_id, wallet=wallet.address)
            step = f"manage.py wallet check {trader.tg_user_id}"
            words = (
                f"wallet {wallet.address} has its gas, {trader.address} {body['usdc']} USDC and its grants"
            )
            self.stdout.write(json.dumps(body) if options["json"] else f"{words}\nnext: {step}")
            return
        steps = funding.steps(plan)
        if options["json"]:
            self.stdout.write(json.dumps({**body, "steps": [step.as_json() for step in steps]}))
        else:
            self.stdout.write("\n".join(_written(number, step) for number, step in enumerate(steps, 1)))
        raise CommandError(
            f"nothing was sent: chain {settings.ENVIRONMENT.chain_id} is not the rehearsal chain, and the "
            f"{len(steps)} steps are yours. Afterwards: manage.py wallet check {trader.tg_user_id}",
            returncode=1,
        )

    def _check(self, trader: Trader, options: dict[str, Any]) -> None:
        wallet = self._wallet(trader)
        try:
            findings = wallet_check.examine(trader, wallet)
        except (RpcFault, NodeError, ValueError) as error:
            raise CommandError(f"the chain does not answer: {error}; manage.py preflight says more") from None
        facts = {"tg_user_id": trader.tg_user_id, "trader": trader.address, "wallet": wallet.address}
        report(self.stdout, findings, as_json=options["json"], facts=facts)

    def _wallet(self, trader: Trader) -> Wallet:
        wallet = Wallet.objects.filter(trader=trader, chain_id=settings.ENVIRONMENT.chain_id).first()
        if wallet is None:
            step = f"manage.py wallet create {trader.tg_user_id}"
            raise CommandError(f"trader {trader.tg_user_id} has no wallet on this chain: {step}")
        return wallet


def _units(digits: int) -> Callable[[str], int]:
    """An argument's type: a plain amount above zero, as a whole number of its smallest units."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,20}(\.[0-9]+)?", text, re.ASCII):
            raise argparse.ArgumentTypeError("must be a plain decimal number such as 50 or 0.01")
        try:
            units = to_units(Decimal(text), digits, "the amount")
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if not units:
            raise argparse.ArgumentTypeError("must be above zero")
        return units

    return read


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DELEGATION_AT_MOST_DAYS:
        raise argparse.ArgumentTypeError(f"must be from 1 to {DELEGATION_AT_MOST_DAYS}, not {text!r}")
    return int(text)


def _written(number: int, step: funding.Step) -> str:
    lines = [f"{number}. {step.sender} sends to {step.to}: {step.words}"]
    if step.data:
        lines.append(f"   to {step.to}  value {step.value_wei}  data {step.data}")
    return "\n".join(lines)
