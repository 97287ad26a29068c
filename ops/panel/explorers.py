"""Where a chain's transactions can be looked at by anybody; a chain that is not here has no links."""

import re

from django.conf import settings

# By chain id, from each explorer's own pages; %s is the hash.
TRANSACTIONS = {
    8453: "https://basescan.org/tx/%s",
    84532: "https://sepolia.basescan.org/tx/%s",
}
_HASH = re.compile(r"0x[0-9a-f]{64}")


def of_transaction(tx_hash: str) -> str:
    """The page of a transaction; blank where the chain has no explorer here or nothing of this name left for it."""
    template = TRANSACTIONS.get(settings.ENVIRONMENT.chain_id)
    return template % tx_hash if template and _HASH.fullmatch(tx_hash) else ""
