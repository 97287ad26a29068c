"""The counters and histograms of the flow; gauges of state are read from the rows at scrape time.

Zero by design, so that any increase pages: duplicate, illegal transition, lost
nonce, invariant violation.
"""

from prometheus_client import Counter, Histogram

INTENT_DUPLICATE = Counter(
    "vanta_intent_duplicate_total", "Second executions of one intent that were observed; zero by design."
)
ILLEGAL_TRANSITION = Counter(
    "vanta_intent_illegal_transition_total", "Refused state changes outside the table; zero by design."
)
NONCE_LOST = Counter("vanta_nonce_lost_total", "Nonces consumed by foreign transactions; zero by design.")
INVARIANT_VIOLATIONS = Counter(
    "vanta_invariant_violations_total", "Invariants seen broken; zero by design.", ["invariant"]
)
INVARIANTS = (
    "event_matches_intent",
    "one_order_per_receipt",
    "ended_order_has_event",
    "spent_message_has_order",
    "position_ends_by_our_close",
)
SIGNALS_REJECTED = Counter(
    "vanta_signals_rejected_total", "Signals refused at the door, by the decision or by the gate.", ["reason"]
)
INTENTS_HELD = Counter(
    "vanta_intents_held_total",
    "Intents that began to wait as held, each once, by their first reason.",
    ["reason"],
)
HELD_EXPIRED = Counter(
    "vanta_held_expired_total", "Held intents whose max lag passed, by what they waited for last.", ["reason"]
)
TX_SUBMISSIONS = Counter("vanta_tx_submissions_total", "First broadcasts of signed bytes.")
TX_SUBMISSIONS_FAILED = Counter(
    "vanta_tx_submissions_failed_total", "Broadcasts that no node accepted, by class of answer.", ["class"]
)
TX_MINED = Counter(
    "vanta_tx_mined_total",
    "Transactions first seen in a block, and those that revert after a reorg and had succeeded.",
    ["status"],
)
TX_STUCK = Counter("vanta_tx_stuck_total", "Lowest nonces unmined past the bump timer.")
RBF_ATTEMPT = Counter("vanta_rbf_attempt_total", "Replacements signed with a higher fee.")
REORGS = Counter("vanta_reorgs_total", "Blocks of ours that left the canonical chain.")
GAS_USED = Counter("vanta_gas_used_total", "Gas used by our mined transactions.")
VENUE_ENDINGS = Counter(
    "vanta_venue_endings_total",
    "Trades that no close of ours ended, by what the venue's event says.",
    ["symbol", "how"],
)
TRADES = Counter("vanta_trades_total", "Executed orders.", ["symbol", "side", "mode"])
POSITIONS_CORRECTED = Counter(
    "vanta_positions_corrected_total",
    "Positions that were corrected by what the venue held at a final block.",
    ["symbol"],
)
TPSL_ERRORS = Counter(
    "vanta_tpsl_errors_total",
    "Looks at prices, levels and open positions that failed, or found a price too old to judge by.",
)
RPC_REQUESTS = Counter(
    "vanta_rpc_requests_total",
    "JSON-RPC calls by endpoint position, method and outcome.",
    ["endpoint", "method", "outcome"],
)
GATEWAY_ROUTES = ("post", "status")
GATEWAY_OUTCOMES = ("ok", "refused", "unclear")
GATEWAY_REQUESTS = Counter(
    "vanta_gateway_requests_total",
    "Requests to the venue's gateway, by route and how they ended; unclear ones prove nothing.",
    ["route", "outcome"],
)
GATEWAY_BREAKER = Counter(
    "vanta_gateway_breaker_changes_total",
    "Changes of a process's breaker for the venue's gateway, by the state that began.",
    ["state"],
)
FEED_ROUTES = ("price", "catalogue")
FEED_REQUESTS = Counter(
    "vanta_feed_requests_total",
    "Questions to the venue's feed and catalogue, by route and how they ended; unclear ones brought nothing.",
    ["route", "outcome"],
)
FEED_BREAKER = Counter(
    "vanta_feed_breaker_changes_total",
    "Changes of a process's breakers for the venue's feed and catalogue, by route and the state that began.",
    ["route", "state"],
)
MESSAGES_LAPSED = Counter(
    "vanta_messages_lapsed_total", "Signed messages whose deadline passed unused, and finally."
)
RPC_BREAKER = Counter(
    "vanta_rpc_breaker_changes_total",
    "Changes of an endpoint's breaker, by endpoint position and the state that began.",
    ["endpoint", "state"],
)
RPC_UNRECOGNISED = Counter(
    "vanta_rpc_unrecognised_total",
    "Refusals of raw bytes in words that no table knows, by endpoint position.",
    ["endpoint"],
)
POLICY_FIELDS = (
    *("chain_id", "sender", "nonce", "to", "selector", "inner_selector", "trader"),
    *("value_wei", "gas_limit", "max_fee_wei", "tip_wei"),
)
LETTER_FIELDS = ("deadline_ms",)  # of messages alone, beside some of those above
SIGNATURES_REFUSED = Counter(
    "vanta_signatures_refused_total",
    "Signatures that the policy before every signer refused, by the field that broke it.",
    ["field"],
)
SIGNERS = ("kms", "web3signer")
SIGNER_OUTCOMES = ("ok", "away", "refused")
SIGNER_REQUESTS = Counter(
    "vanta_signer_requests_total",
    "Signatures asked of a remote signer, and keys that it did not tell, by how that ended: ok, away or refused.",
    ["backend", "outcome"],
)
SIGNAL_TO_BROADCAST = Histogram(
    "vanta_signal_to_broadcast_seconds",
    "From the stored intent to the first accepted broadcast.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)
SIGNAL_TO_MINED = Histogram(
    "vanta_signal_to_mined_seconds",
    "From the stored intent to its first receipt.",
    buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300),
)
SHADOW_PRICE_GAP = Histogram(
    "vanta_shadow_price_gap_pct",
    "What a LIVE fill's price was worse by than a simulation's, in percent; below zero it was better.",
    buckets=(-1, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, 0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
SHADOW_FEE_GAP = Histogram(
    "vanta_shadow_fee_gap_usdc",
    "What a LIVE fill's fee was more than a simulation's, in USDC.",
    buckets=(-1, -0.1, -0.01, 0, 0.01, 0.1, 1, 10, 100),
)
SHADOW_DELAY = Histogram(
    "vanta_shadow_delay_seconds",
    "From the moment at which a simulation fills to the one at which the LIVE fill was read.",
    buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300),
)
