"""`manage.py wallet status|adopt|resume|order-lost`: what an operator does when chain and database differ."""

import argparse
import json
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper

from execution_app.engine import adoption, lost_orders
from execution_app.errors import Refused, Stale
from execution_app.gate import loosening
from execution_app.models import Wallet
from execution_app.node.rpc import NodeError, RpcFault
from ops.rollout import wallet_state
from ops.rollout.operator import account

REASON_LIMIT = 400
VERBS = {
    "status": "nonces, slots in flight, halt, balance and key, beside what the chain says",
    "adopt": "take over what the chain says of a halted wallet; without --yes only shown",
    "resume": "lift the halt of a wallet of which nothing is unclear any more",
    "order-lost": "end an order whose end the venue will never tell; without --yes only examined",
}


def add_arguments(verbs: "argparse._SubParsersAction[Any]") -> None:
    for verb, words in VERBS.items():
        part = verbs.add_parser(verb, help=words, description=words)
        part.add_argument("--json", action="store_true", help="JSON instead of lines")
        if verb == "order-lost":
            part.add_argument("key", help="the intent_key of the order")
        else:
            part.add_argument(
                "tg_user_id",
                type=int,
                nargs="?" if verb == "status" else None,
                help="the trader's Telegram id" + ("; all wallets without" if verb == "status" else ""),
            )
        if verb == "status":
            continue
        if verb != "resume":
            part.add_argument("--yes", action="store_true", help="do what was shown")
        if verb == "adopt":
            part.add_argument(
                "--unseen-is-lost",
                action="store_true",
                help="give up slots of ours of which no node shows what took them, as if another transaction had",
            )
        part.add_argument("--reason", default="", help="why, at least 8 characters; goes into the audit log")
        part.add_argument("--by", default=account(), help="who: a name of the admin site")
        part.add_argument(
            "--code", default="", help="one-time code; not asked on the rehearsal chain of who has none"
        )


def run(stdout: OutputWrapper, options: dict[str, Any]) -> None:
    """Carry out a verb. Raises CommandError with exit code 1 where it is refused."""
    verbs = {"status": _status, "adopt": _adopt, "resume": _resume, "order-lost": _end_order}
    try:
        verbs[options["verb"]](stdout, options)
    except (RpcFault, NodeError) as error:
        raise CommandError(f"every endpoint must answer, and one does not: {error}", returncode=1) from None
    except Stale as error:
        raise CommandError(f"{error}; look again", returncode=1) from None
    except Refused as error:
        raise CommandError(str(error), returncode=1) from None


def _status(stdout: OutputWrapper, options: dict[str, Any]) -> None:
    wallets = Wallet.objects.filter(chain_id=settings.ENVIRONMENT.chain_id).select_related("trader")
    if options["tg_user_id"] is not None:
        wallets = wallets.filter(trader__tg_user_id=options["tg_user_id"])
        if not wallets:
            raise Refused(f"trader {options['tg_user_id']} has no wallet on this chain")
    facts = [wallet_state.describe(wallet) for wallet in wallets.order_by("id")]
    lines = [line for wallet in facts for line in wallet_state.in_words(wallet)]
    stdout.write(json.dumps(facts) if options["json"] else "\n".join(lines) or "no wallet on this chain")


def _adopt(stdout: OutputWrapper, options: dict[str, Any]) -> None:
    wallet = _wallet(options)
    drawn = adoption.plan(wallet, unseen_is_lost=options["unseen_is_lost"])
    facts = wallet_state.adoption(drawn)
    done = bool(options["yes"]) and not drawn.problem
    if done:
        _permit(options)
        adoption.adopt(wallet, drawn, by=options["by"], reason=options["reason"][:REASON_LIMIT])
    lines = wallet_state.adoption_in_words(facts)
    then = "wallet adopt again, once the book has followed" if drawn.stops else "wallet resume"
    lines.append(f"adopted; next: {then}" if done else "nothing was changed; --yes does it")
    stdout.write(json.dumps({"adopted": done, **facts}) if options["json"] else "\n".join(lines))
    if drawn.problem:
        raise Refused(drawn.problem)


def _resume(stdout: OutputWrapper, options: dict[str, Any]) -> None:
    wallet = _wallet(options)
    _permit(options)
    adoption.resume(wallet, by=options["by"], reason=options["reason"][:REASON_LIMIT])
    words = f"wallet {wallet.address} signs again from nonce {wallet.next_nonce}"
    said = {"resumed": True, "address": wallet.address, "next_nonce": wallet.next_nonce}
    stdout.write(json.dumps(said) if options["json"] else words)


def _end_order(stdout: OutputWrapper, options: dict[str, Any]) -> None:
    proof = lost_orders.examine(options["key"])
    done = bool(options["yes"]) and not proof.against
    if done:
        _permit(options)
        lost_orders.end(proof, by=options["by"], reason=options["reason"][:REASON_LIMIT])
    facts = {
        "ended": done,
        "key": options["key"],
        "order": proof.order.order_id,
        "final_block": proof.block_number,
        "endpoints": proof.endpoints,
        "against": proof.against,
    }
    verdict = "ended" if done else "nothing was changed; --yes ends it"
    lines = [f"order {proof.order.order_id}, by block {proof.block_number} of {proof.endpoints} endpoint(s)"]
    stdout.write(json.dumps(facts) if options["json"] else "\n".join([*lines, *proof.against, verdict]))
    if proof.against:
        raise Refused(f"{options['key']} is not shown to be lost")


def _permit(options: dict[str, Any]) -> None:
    loosening.permit(by=options["by"], reason=options["reason"], code=options["code"])


def _wallet(options: dict[str, Any]) -> Wallet:
    wallet = (
        Wallet.objects.filter(
            trader__tg_user_id=options["tg_user_id"], chain_id=settings.ENVIRONMENT.chain_id
        )
        .select_related("trader")
        .first()
    )
    if wallet is None:
        raise Refused(f"trader {options['tg_user_id']} has no wallet on this chain")
    return wallet
