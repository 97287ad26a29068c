"""Which chain each endpoint is on, asked once and briefly before a process does anything."""

import queue
import threading
import time

from django.conf import settings

from execution_app.node.rpc import Endpoint, NodeError, RpcFault

PATIENCE_S = 2.0
# An endpoint's position and the chain id it said; None where it said nothing of use.
Answers = queue.SimpleQueue[tuple[int, int | None]]


def foreign(patience_s: float = PATIENCE_S) -> dict[int, int]:
    """Position and chain id of every endpoint that says another chain than CHAIN_ID.

    All are asked at once. Who is silent, refuses or talks nonsense within the patience has said
    nothing, and is not among them.
    """
    environment = settings.ENVIRONMENT
    answers: Answers = queue.SimpleQueue()
    # Endpoints of this look alone: a pool of connections that is older than a fork would be shared by it.
    endpoints = [Endpoint(url, position) for position, url in enumerate(environment.rpc_urls)]
    for endpoint in endpoints:
        # A thread that hangs, in a resolver for one, must not keep a process from ending.
        threading.Thread(target=_ask, args=(endpoint, answers), name="chain-id", daemon=True).start()
    deadline_s = time.monotonic() + patience_s
    found = {}
    for _ in endpoints:
        try:
            position, chain_id = answers.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            break
        if chain_id is not None and chain_id != environment.chain_id:
            found[position] = chain_id
    return dict(sorted(found.items()))


def _ask(endpoint: Endpoint, answers: Answers) -> None:
    try:
        chain_id = int(endpoint.call("eth_chainId"), 16)
    except (RpcFault, NodeError, ValueError, TypeError):
        chain_id = None
    answers.put((endpoint.position, chain_id))
