"""Every alert of the rule file has a scene of `make alerts` that provokes it, or a reason why none can."""

from tests.alerts.ledger import WATCHDOG
from tests.alerts.scenes import ALL, NOT_PROVOKED
from tests.ops.alerts import rulebook


def test_every_alert_is_provoked_by_one_scene_or_told_as_not_provoked() -> None:
    provoked = [alert for scene in ALL for alert in scene.alerts]
    assert len(provoked) == len(set(provoked))
    assert not set(provoked) & set(NOT_PROVOKED)
    assert {WATCHDOG, *provoked, *NOT_PROVOKED} == set(rulebook.alerts())
    assert all(NOT_PROVOKED.values())
