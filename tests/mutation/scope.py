"""Which modules are mutated, in which groups, and which tests may find the mutants."""

from tests.mutation.mutants import ROOT

# In the order of a run. A folder stands for its files.
GROUPS: dict[str, tuple[str, ...]] = {
    "states": ("execution_app/states.py",),
    "gate": ("execution_app/gate/",),
    "node": ("execution_app/node/node_errors.py", "execution_app/node/fees.py"),
    "signatures": ("signals_app/signatures.py",),
    "signers": ("execution_app/node/signers.py", "execution_app/node/signing/"),
    "engine": ("execution_app/engine/",),
}
# The tests that are to find the mutants of a group. They run in one process: what starts processes of its
# own is left out, since a mutant does not reach these.
TESTS: dict[str, tuple[str, ...]] = {
    "states": (
        "tests/execution/test_words.py",
        "tests/execution/test_states.py",
        "tests/execution/test_moves.py",
        "tests/execution/test_constraints.py",
        "tests/execution/test_more_guards.py",
        "tests/execution/test_risk_constraints.py",
        "tests/execution/test_meters.py",
        "tests/execution/test_exits.py",
        "tests/execution/gate/test_usage.py",
        "tests/integration/tx/test_orchestrator_idempotent.py",
        "tests/ops/watch/test_metrics.py",
    ),
    "gate": (
        "tests/execution/gate/",
        "tests/execution/test_reservations.py",
        "tests/execution/test_risk_constraints.py",
        "tests/integration/tx/test_approval.py",
        "tests/integration/tx/test_caps.py",
        "tests/integration/tx/test_increase_gate.py",
        "tests/integration/tx/test_margin_combined.py",
        "tests/integration/tx/test_margin_gate.py",
        "tests/integration/tx/test_margin_intents.py",
        "tests/integration/tx/test_order_updates.py",
        "tests/integration/tx/test_remote_signing_stops.py",
        "tests/integration/tx/test_stop.py",
        "tests/integration/tx/test_unheld.py",
        "tests/ops/rollout/test_caps_command.py",
        "tests/ops/rollout/test_held_approve.py",
        "tests/ops/rollout/test_mode_history.py",
        "tests/ops/rollout/test_switches.py",
    ),
    "node": (
        "tests/execution/test_node_errors.py",
        "tests/execution/test_fees.py",
        "tests/execution/test_rpc.py",
        "tests/execution/test_endpoints.py",
        "tests/integration/tx/test_replacement.py",
        "tests/integration/tx/test_nodes_that_fail.py",
    ),
    "signatures": (
        "tests/signals/test_signatures.py",
        "tests/signals/test_webhooks.py",
        "tests/signals/test_tokens.py",
    ),
    "signers": (
        "tests/execution/signing/",
        "tests/execution/test_signers.py",
        "tests/integration/tx/test_signer_journal.py",
        "tests/integration/tx/test_remote_signing.py",
        "tests/integration/tx/test_gateway_remote_signing.py",
    ),
    "engine": (
        "tests/execution/",
        "tests/integration/tx/",
        "tests/chaos/test_node_behind.py",
        "tests/ops/rollout/test_backup_reconcile.py",
        "tests/ops/rollout/test_held_approve.py",
        "tests/ops/rollout/test_order_lost.py",
        "tests/ops/rollout/test_wallet_adopt.py",
    ),
}


def files(only: list[str] | None = None) -> list[str]:
    """Files of the chosen groups or modules; all for none. Raises LookupError for a name that nothing has."""
    known = {group: _files_of(parts) for group, parts in GROUPS.items()}
    everything = [file for group in known.values() for file in group]
    chosen: list[str] = []
    for name in only or known:
        wanted = name.removesuffix(".py").replace(".", "/")
        found = known.get(name) or [file for file in everything if _is_named(file, wanted)]
        if not found:
            raise LookupError(name)
        chosen += [file for file in found if file not in chosen]
    return chosen


def group_of(file: str) -> str:
    return next(group for group, parts in GROUPS.items() if file in _files_of(parts))


def _is_named(file: str, wanted: str) -> bool:
    return f"{file.removesuffix('.py')}/".startswith(f"{wanted.rstrip('/')}/")


def _files_of(parts: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for part in parts:
        paths = sorted((ROOT / part).glob("*.py")) if part.endswith("/") else [ROOT / part]
        found += [path.relative_to(ROOT).as_posix() for path in paths if path.name != "__init__.py"]
    return found
