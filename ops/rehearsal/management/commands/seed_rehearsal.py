"""Give the rehearsal stack somebody to trade for: a funded trader, a delegate wallet, a source, an admin."""

import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from eth_account import Account

from execution_app.models import Chain, Trader, Wallet
from execution_app.node import rpc, signers
from ops.rehearsal import venue
from ops.rehearsal.deployment import Deployment, load
from ops.rehearsal.rpc import Node, Sender
from signals_app.models import SourceGrant

TG_USER_ID = 123
SOURCE = "drill"
# Well-known development account 2; it owns nothing on any real chain, and any other chain is refused.
TRADER_KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
ETH_WEI = 10**18
USDC_UNITS = 10**6
DELEGATION_S = 90 * 24 * 3600


class Command(BaseCommand):
    help = "Seed the rehearsal chain's trader, wallet, source and admin; safe to repeat. Refuses any chain but 31337."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--deployment", type=Path, default=Path("var/chain.json"), help="the venue's record"
        )
        parser.add_argument("--json", action="store_true", help="print the addresses as JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        if not settings.REHEARSAL:
            raise CommandError(f"CHAIN_ID is {settings.ENVIRONMENT.chain_id}; only chain 31337 is seeded")
        deployment = load(options["deployment"])
        trader, wallet = self._trader(), None
        chain = Chain.objects.first()
        if chain is not None and chain.genesis_hash != deployment.genesis_hash:
            wallet = Wallet.objects.get(trader=trader)
            self.stderr.write(
                "the database belongs to another chain than this one; nothing is seeded and nobody trades. "
                "Bring the old chain back, or start afresh with `make clean`."
            )
        else:
            wallet = self._wallet(trader, deployment)
        SourceGrant.objects.get_or_create(source=SOURCE, tg_user_id=TG_USER_ID)
        self._admin()
        self._roles()
        found = {"tg_user_id": TG_USER_ID, "trader_address": trader.address, "wallet_address": wallet.address}
        self.stdout.write(json.dumps(found) if options["json"] else f"seeded: {found}")

    def _trader(self) -> Trader:
        address = Account.from_key(TRADER_KEY).address
        trader, _ = Trader.objects.get_or_create(
            tg_user_id=TG_USER_ID, defaults={"label": "rehearsal trader", "address": address}
        )
        return trader

    def _wallet(self, trader: Trader, deployment: Deployment) -> Wallet:
        """The trader's delegate, funded and delegated to with a finite allowance."""
        wallet = Wallet.objects.filter(trader=trader).first()
        if wallet is None:
            address = signers.create_key()
            count = int(rpc.read("eth_getTransactionCount", address, "latest"), 16)
            wallet = Wallet.objects.create(
                trader=trader,
                chain_id=deployment.chain_id,
                address=address,
                next_nonce=count,
                max_in_flight=settings.ENVIRONMENT.max_in_flight,
            )
        elif not signers.has_key(wallet.address):
            raise CommandError(f"the key of wallet {wallet.address} is missing from SIGNER_KEY_DIR")
        block = rpc.read("eth_getBlockByNumber", "latest", False)
        venue.equip(
            Sender(Node(settings.ENVIRONMENT.rpc_urls[0]), TRADER_KEY),
            deployment,
            wallet.address,
            wallet_wei=100 * ETH_WEI,
            usdc_units=100_000 * USDC_UNITS,
            expiry_s=int(block["timestamp"], 16) + DELEGATION_S,
        )
        return wallet

    def _admin(self) -> None:
        name, password = os.environ.get("ADMIN_USER", ""), os.environ.get("ADMIN_PASSWORD", "")
        if name and password:
            users = get_user_model().objects
            user = users.filter(username=name).first() or users.create_superuser(name)
            if not user.check_password(password):
                user.set_password(password)
                user.save(update_fields=["password"])

    def _roles(self) -> None:
        """The roles as a deployment has them; a database of somebody's own may not permit that."""
        try:
            call_command("roles", "apply", reason="rehearsal", stdout=self.stderr)
        except CommandError as problem:
            self.stderr.write(f"database roles are not applied: {problem}")
