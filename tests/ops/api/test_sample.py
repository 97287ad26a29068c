"""The command on the page works as it stands."""

import json
import os
import subprocess

from ops.api.document import document
from signals_app.models import Signal
from tests.signals.sender import default_secret
from tests.signals.wire import server


def test_the_sample_signs_and_sends_a_signal(database: None) -> None:
    (sample,) = document()["paths"]["/signals"]["post"]["x-codeSamples"]
    with server() as number:
        environment = {
            **os.environ,
            "WEBHOOK_URL": f"http://127.0.0.1:{number}",
            "SECRET": default_secret(),
        }
        said = [
            subprocess.run(
                ["sh", "-c", sample["source"]], env=environment, capture_output=True, check=True, timeout=30
            ).stdout
            for _ in range(2)
        ]
    assert [json.loads(text)["status"] for text in said] == ["queued", "duplicate"]
    assert Signal.objects.get().signal_id == "test-001"
