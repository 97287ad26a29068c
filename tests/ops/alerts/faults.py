"""A healthy LIVE stack as series, and for each alert the series that make it fire."""

from tests.ops.alerts.ends import ABSENT, Ago, Grows, Value

DAY_S = 86_400
COMPONENTS = ("webhook", "worker", "tpsl", "beat", "bot")
_OK_CALLS = 'vanta_rpc_requests_total{endpoint="0",method="eth_call",outcome="%s"}'
_ANSWERS = 'vanta_http_requests_total{status="%d",route="/signals",method="POST"}'
_START = 'vanta_process_start_time_seconds{component="worker"}'
_BALANCE = 'vanta_wallet_balance_eth{wallet="0x%d"}'
_EXPIRY = 'vanta_delegate_expiry_timestamp_seconds{wallet="0x%d"}'
_AWAY = 'vanta_signer_requests_total{backend="web3signer",outcome="away"}'
_HEART = 'vanta_heartbeat_timestamp_seconds{component="%s"}'

HEALTHY: dict[str, Value] = {
    "vanta_intent_duplicate_total": 0,
    "vanta_intent_illegal_transition_total": 0,
    'vanta_invariant_violations_total{invariant="one_order_per_receipt"}': 0,
    "vanta_nonce_lost_total": 0,
    "vanta_broadcasts_under_stop": 0,
    'vanta_signatures_refused_total{field="to"}': 0,
    "vanta_trade_notional_usd": 10,
    "vanta_trade_leverage_x": 2,
    "vanta_trades_outside_symbols": 0,
    'vanta_cap_limit{cap="notional_usdc"}': 10,
    'vanta_cap_limit{cap="leverage_x"}': 2,
    'vanta_exec_mode{mode="LIVE"}': 1,
    'vanta_exec_mode{mode="DRY"}': 0,
    'vanta_exec_mode_requested{mode="LIVE"}': 1,
    'vanta_exec_mode_requested{mode="DRY"}': 0,
    "vanta_exec_mode_changes_total": 1,
    "vanta_emergency_stop": 0,
    "vanta_redis_health_streak": 9,
    'vanta_queue_depth{queue="submit"}': 3,
    'vanta_intents{state="settled"}': 7,
    'vanta_intent_state_age_seconds{state="pending"}': 0,
    "vanta_oldest_held_age_seconds": 0,
    'vanta_position_drift{symbol="BTC-USD"}': 0,
    'vanta_price_age_seconds{symbol="BTC-USD"}': 2,
    'vanta_price_sources{symbol="BTC-USD"}': 3,
    "vanta_price_sources_wanted": 2,
    'vanta_price_deviation_pct{symbol="BTC-USD"}': 0.1,
    "vanta_price_deviation_limit_pct": 1,
    'vanta_market_open{symbol="BTC-USD"}': 1,
    "vanta_wallets_halted": 0,
    _BALANCE % 1: 0.01,
    _BALANCE % 2: 0.01,
    _EXPIRY % 1: Ago(-30 * DAY_S),
    _EXPIRY % 2: Ago(-30 * DAY_S),
    "vanta_backup_timestamp_seconds": Ago(3600),
    "vanta_retention_timestamp_seconds": Ago(3600),
    **{_HEART % name: Ago(1) for name in COMPONENTS},
    _START: 1_700_000_000,
    _OK_CALLS % "ok": Grows(10),
    _OK_CALLS % "fault": 0,
    _ANSWERS % 202: Grows(10),
    _ANSWERS % 503: 0,
    "vanta_tx_submissions_total": Grows(10),
    'vanta_tx_submissions_failed_total{class="underpriced"}': 0,
    "vanta_rbf_attempt_total": 0,
    'vanta_tx_mined_total{status="ok"}': Grows(10),
    'vanta_tx_mined_total{status="reverted"}': 0,
    'vanta_held_expired_total{reason="mode_degraded"}': 0,
    "vanta_tpsl_errors_total": 0,
    _AWAY: 0,
}
# The same stack where nobody asks for LIVE.
DRY: dict[str, Value] = {
    'vanta_exec_mode{mode="LIVE"}': 0,
    'vanta_exec_mode{mode="DRY"}': 1,
    'vanta_exec_mode_requested{mode="LIVE"}': 0,
    'vanta_exec_mode_requested{mode="DRY"}': 1,
}
# All of these can be so at once, and none of them hides another.
AT_ONCE: dict[str, dict[str, Value]] = {
    "VantaDuplicateIntent": {"vanta_intent_duplicate_total": Grows(1)},
    "VantaIllegalTransition": {"vanta_intent_illegal_transition_total": Grows(1)},
    "VantaInvariantViolated": {
        'vanta_invariant_violations_total{invariant="one_order_per_receipt"}': Grows(1)
    },
    "VantaNonceLost": {"vanta_nonce_lost_total": Grows(1)},
    "VantaNotStopped": {"vanta_broadcasts_under_stop": 1},
    "VantaSignatureRefused": {'vanta_signatures_refused_total{field="to"}': Grows(1)},
    "VantaNotionalBreach": {"vanta_trade_notional_usd": 10.5},
    "VantaLeverageBreach": {"vanta_trade_leverage_x": 2.5},
    "VantaSymbolBreach": {"vanta_trades_outside_symbols": 1},
    "VantaModeFlapping": {"vanta_exec_mode_changes_total": Grows(1)},
    "VantaStuckInDry": {'vanta_exec_mode{mode="LIVE"}': 0, 'vanta_exec_mode{mode="DRY"}': 1},
    "VantaStopHolds": {"vanta_emergency_stop": 1},
    "VantaRedisAway": {"vanta_redis_health_streak": 0},
    "VantaWebhookSilent": {_HEART % "webhook": Ago(400)},
    "VantaWorkerSilent": {_HEART % "worker": Ago(400)},
    "VantaTpslSilent": {_HEART % "tpsl": Ago(400)},
    "VantaBeatSilent": {_HEART % "beat": Ago(400)},
    "VantaBotSilent": {_HEART % "bot": Ago(400)},
    "VantaRestarting": {_START: Grows(1)},
    "VantaNodeFailing": {_OK_CALLS % "fault": Grows(10)},
    "VantaQueueBacklog": {'vanta_queue_depth{queue="submit"}': 501},
    "VantaHttpErrors": {_ANSWERS % 503: Grows(1)},
    "VantaBackupOld": {"vanta_backup_timestamp_seconds": Ago(27 * 3600)},
    "VantaRetentionOld": {"vanta_retention_timestamp_seconds": Ago(4 * DAY_S)},
    "VantaTransactionsFailing": {'vanta_tx_mined_total{status="reverted"}': Grows(1)},
    "VantaBroadcastsFailing": {'vanta_tx_submissions_failed_total{class="underpriced"}': Grows(1)},
    "VantaRbfExcess": {"vanta_rbf_attempt_total": Grows(6)},
    "VantaIntentStuck": {'vanta_intent_state_age_seconds{state="pending"}': 121},
    "VantaHeldTooLong": {"vanta_oldest_held_age_seconds": 301},
    "VantaHeldExpired": {'vanta_held_expired_total{reason="mode_degraded"}': Grows(1)},
    "VantaPriceStale": {'vanta_price_age_seconds{symbol="BTC-USD"}': 61},
    "VantaPriceDeviates": {'vanta_price_deviation_pct{symbol="BTC-USD"}': 1.5},
    "VantaPriceAlone": {'vanta_price_sources{symbol="BTC-USD"}': 1},
    "VantaTpslFailing": {"vanta_tpsl_errors_total": Grows(8)},
    "VantaPositionDrift": {'vanta_position_drift{symbol="BTC-USD"}': 1},
    "VantaWalletHalted": {"vanta_wallets_halted": 1},
    "VantaWalletLow": {_BALANCE % 1: 0.001},
    "VantaWalletEmpty": {_BALANCE % 2: 0.0001},
    "VantaDelegateExpiring": {_EXPIRY % 1: Ago(-6 * DAY_S)},
    "VantaDelegateEnding": {_EXPIRY % 2: Ago(-3600)},
    "VantaSignerFailing": {_AWAY: Grows(5)},
}
# Each of these takes the others' metrics away, so it is tried alone.
INCOMPLETE: dict[str, Value] = {"vanta_wallets_halted": ABSENT}
_OF_THE_DATABASE = (
    "vanta_intents",
    "vanta_heartbeat",
    "vanta_process_start",
    "vanta_backup",
    "vanta_retention",
    "vanta_price",
    "vanta_market_open",
)
DATABASE_AWAY: dict[str, Value] = {
    series: ABSENT for series in HEALTHY if series.startswith(_OF_THE_DATABASE)
}
