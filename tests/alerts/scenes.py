"""The scenes, each of which harms the stack in real ways and mends it again, in the order in which they are played.

The first ones are those whose expressions look back longest: an alert over `[15m]` is over 15 minutes after its fault.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.alerts import counted, dark, full, neglected, restrained
from tests.alerts.ground import Ground


@dataclass(frozen=True)
class Scene:
    """`play` harms, waits until people were told of `alerts`, and mends; it may leave windows to pass."""

    name: str
    alerts: tuple[str, ...]
    play: Callable[[Ground], None]


# Played at the start of the stack, before it is as it should be.
NEGLECTED = Scene(
    "neglected",
    (
        *("VantaBackupOld", "VantaBotSilent", "VantaRetentionOld", "VantaNotionalBreach"),
        *("VantaLeverageBreach", "VantaSymbolBreach", "VantaPriceDeviates", "VantaPriceAlone"),
        *("VantaSignerFailing", "VantaMetricsSilent"),
    ),
    neglected.play,
)
SCENES = (
    Scene("restarts", ("VantaRestarting",), counted.restarts),
    Scene("replacements", ("VantaRbfExcess", "VantaDuplicateIntent"), counted.replacements),
    Scene(
        "refusals",
        ("VantaTransactionsFailing", "VantaBroadcastsFailing", "VantaInvariantViolated"),
        counted.refusals,
    ),
    Scene("attempts", ("VantaIllegalTransition", "VantaSignatureRefused"), counted.attempts),
    Scene("undelivered", ("VantaAlertsUndelivered",), counted.undelivered),
    Scene("foreign", ("VantaNonceLost", "VantaWalletHalted"), counted.foreign),
    Scene("elsewhere", ("VantaPositionDrift",), restrained.elsewhere),
    Scene("full", ("VantaHttpErrors",), full.play),
    Scene("stopped", ("VantaStopHolds", "VantaNotStopped"), restrained.stopped),
    Scene(
        "dark",
        (
            *("VantaIntentStuck", "VantaWalletLow", "VantaWalletEmpty", "VantaHeldTooLong"),
            *("VantaHeldExpired", "VantaMetricsIncomplete", "VantaNodeFailing", "VantaTpslFailing"),
            *("VantaPriceStale", "VantaQueueBacklog", "VantaWorkerSilent", "VantaTpslSilent"),
            *("VantaBeatSilent", "VantaWebhookSilent", "VantaRedisAway", "VantaStuckInDry"),
            *("VantaModeFlapping", "VantaDelegateExpiring", "VantaDelegateEnding", "VantaDatabaseAway"),
        ),
        dark.play,
    ),
)
ALL = (NEGLECTED, *SCENES)
# Alerts for which there is no scene, and why.
NOT_PROVOKED: dict[str, str] = {}
