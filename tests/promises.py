"""Every metric that the contract promises, what docs/metrics.md says of each, and what a scrape shows.

Of the contract's families type and label names are fixed: dashboards and alerts outside this repository name them.
"""

import re
import subprocess

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests import machine_tools
from tests.real_parts import ROOT

Shape = tuple[str, tuple[str, ...]]  # type, label names in order
PAGE = ROOT / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\| \w[^|]{5,} \|$", re.MULTILINE)

COUNTERS = {
    "vanta_intent_duplicate_total": "",
    "vanta_intent_illegal_transition_total": "",
    "vanta_nonce_lost_total": "",
    "vanta_invariant_violations_total": "invariant",
    "vanta_exec_mode_changes_total": "",
    "vanta_http_requests_total": "status route method",
    "vanta_signals_received_total": "source",
    "vanta_signals_deduplicated_total": "source",
    "vanta_signals_rejected_total": "reason",
    "vanta_tx_submissions_total": "",
    "vanta_tx_submissions_failed_total": "class",
    "vanta_tx_mined_total": "status",
    "vanta_tx_stuck_total": "",
    "vanta_rbf_attempt_total": "",
    "vanta_reorgs_total": "",
    "vanta_gas_used_total": "",
    "vanta_trades_total": "symbol side mode",
    "vanta_tpsl_triggers_total": "type",
    "vanta_tpsl_errors_total": "",
    "vanta_rpc_requests_total": "endpoint method outcome",
    "vanta_signatures_refused_total": "field",
    "vanta_signer_requests_total": "backend outcome",
}
HISTOGRAMS = {
    "vanta_http_request_duration_seconds": "",
    "vanta_signal_to_broadcast_seconds": "",
    "vanta_signal_to_mined_seconds": "",
}
GAUGES = {
    "vanta_exec_mode": "mode",
    "vanta_emergency_stop": "",
    "vanta_redis_health_streak": "",
    "vanta_queue_depth": "queue",
    "vanta_intents": "state",
    "vanta_oldest_unsettled_age_seconds": "",
    "vanta_position_drift": "symbol",
    "vanta_price_age_seconds": "symbol",
    "vanta_wallet_balance_eth": "wallet",
    "vanta_heartbeat_timestamp_seconds": "component",
    "vanta_process_start_time_seconds": "component",
    "vanta_build_info": "version",
    "vanta_trade_notional_usd": "",
    "vanta_trade_leverage_x": "",
}
PROMISED: dict[str, Shape] = {
    name: (kind, tuple(sorted(labels.split())))
    for kind, families in (("counter", COUNTERS), ("histogram", HISTOGRAMS), ("gauge", GAUGES))
    for name, labels in families.items()
}


def shown(text: str) -> dict[str, Shape]:
    """The families of a scrape in order, by the names that Prometheus stores. Every one has to have a sample."""
    return {_name(family): _shape(family) for family in text_string_to_metric_families(text)}


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _shape(family: Metric) -> Shape:
    labels = {tuple(sorted(sample.labels.keys() - {"le"})) for sample in family.samples}
    assert len(labels) == 1, f"{family.name}: {labels or 'no sample, so nobody can tell its labels'}"
    return family.type, labels.pop()


def documented() -> dict[str, Shape]:
    """The table of docs/metrics.md."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    named = [name for name, _, _ in rows]
    assert len(named) == len(set(named)), "a family has two rows"
    return {name: (kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in rows}


def hold(text: str) -> None:
    """Hold a whole scrape against the contract and the page, both ways, and have promtool read it."""
    found = shown(text)
    ours = [name.startswith("vanta_") for name in found]
    assert ours == sorted(ours, reverse=True), "vanta_ families come first"
    assert {name: found.get(name) for name in PROMISED} == PROMISED
    assert {name: shape for name, shape in found.items() if name.startswith("vanta_")} == documented()
    lint(text)


def lint(text: str) -> None:
    """Prometheus's own opinion. Without promtool the test is left out, and fails on a build machine."""
    promtool = machine_tools.need("prometheus", "promtool")
    judged = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")
