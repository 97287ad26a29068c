"""The bench's figures in words."""

from typing import Any


def words(found: dict[str, Any]) -> str:
    lines = [f"load before it began: {found['load_average']}; {found['cores']} cores"]
    if "scale" in found:
        scale = found["scale"]
        lines += [
            "",
            f"Scale: the node alone, {scale['transactions']} transactions that were signed before, in batches",
            (
                f"  accepted {scale['accepted_per_s']}/s, mined {scale['mined_per_s']}/s; "
                f"one process signs and checks {scale['signed_per_s']}/s"
            ),
        ]
    if "engine" in found:
        lines += ["", *_engine(found["engine"])]
    if "road" in found:
        lines += ["", *_road(found["road"])]
    return "\n".join(lines)


def _engine(engine: dict[str, Any]) -> list[str]:
    last = ", ".join(f"{name} {seconds} s" for name, seconds in engine["last_after_s"].items())
    each = ", ".join(f"{name} {spent_ms} ms" for name, spent_ms in engine["cpu_ms_each"].items())
    return [
        f"Engine alone: {engine['intents']} intents of a plain call, mined once each, in order by nonce",
        f"  {engine['per_s']} intents/s, {engine['took_s']} s from the first nonce taken to the last one mined",
        f"  last one: {last}",
        f"  CPU for each: {each}; with all cores for these alone, at most {engine['most_per_s']}/s",
        *_terms(engine),
    ]


def _road(road: dict[str, Any]) -> list[str]:
    ages = ", ".join(f"{state} {age['p50']} / {age['p99']} s" for state, age in road["age_s"].items())
    return [
        f"Whole road: {road['signals']} signals through the webhook, each filled once",
        (
            f"  accepted {road['accepted_per_s']} signals/s (slowest answer {road['slowest_answer_s']} s), "
            f"executed {road['executed_per_s']}/s within {road['took_s']} s"
        ),
        f"  from accepted, p50 / p99: {ages}",
        *_terms(road),
    ]


def _terms(part: dict[str, Any]) -> list[str]:
    (gas, usual_gas), (places, usual_places) = part["gas_limit"], part["in_flight"]
    shares = ", ".join(f"{name} {share}" for name, share in part["cores"].items())
    return [
        f"  limited by: {part['limited_by']}",
        f"  cores in use: {shares}",
        f"  block gas limit {gas:,} (usual: {usual_gas:,}), in flight {places} (usual: {usual_places}), blocks of 1 s",
    ]
