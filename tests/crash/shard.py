"""One process that does trials for another: jobs come as lines of JSON, and so do results.

`python -m tests.crash.shard` starts a database, a Redis and a node of its own, and
ends them when its input ends. Lines that begin with `@` are results. With `--long` it
first does what only pays for hundreds of trials; with `--core=N` it keeps to that core.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

NAMED = re.compile(r"[\w.]+(Error|Exception|Violation|Move|Refused|Stale|Disagreement|Fault): ")
TRIES = 3  # a machine under load may take another road; only a trial whose point was reached counts


def main() -> int:
    for word in sys.argv[1:]:
        if word.startswith("--core="):
            keep_to_a_core(int(word.removeprefix("--core=")))
    # Ctrl-C is for whoever started this; it closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["DJANGO_SETTINGS_MODULE"] = "vanta.settings"
    import tests.real_parts  # noqa: F401  (starts the parts and tells the settings of them)

    os.environ["LOG_LEVEL"] = os.environ.get("CRASH_LOG_LEVEL", "ERROR")
    import django

    django.setup()
    from tests.crash import forerun, lab
    from tests.crash.roads import SCENARIOS

    with lab.bench() as bench:
        if "--long" in sys.argv[1:]:
            forerun.make_ready(bench)
        worker = _Worker(bench)
        say({"ready": {name: one.faults for name, one in SCENARIOS.items()}})
        for line in sys.stdin:
            for result in worker.work(json.loads(line)):
                say(result)
            say({"done": True})
    return 0


def keep_to_a_core(number: int) -> None:
    """With all that is started from here, on one core: by its number among those that there are, counted round.

    Where the kernel knows how; elsewhere nothing is lost but time.

    Process, database and node wait for each other all the time: what one has in the core's caches another needs, and to
    wake somebody at another core costs more than what is asked of it. That makes a third more trials in a minute.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def say(result: dict[str, Any]) -> None:
    sys.stdout.write("@" + json.dumps(result) + "\n")
    sys.stdout.flush()


class _Worker:
    """Keeps the stage of the last scenario, since jobs of one come together."""

    def __init__(self, bench: Any) -> None:
        self._bench = bench
        self._stage = ""

    def work(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        from tests.crash.roads import SCENARIOS

        scenario = SCENARIOS[job["scenario"]]
        for place in job.get("places") or job["faults"]:
            try:
                self._set_stage(scenario)  # anew where the trials before have worn it out
            except AssertionError as broken:
                yield {"scenario": scenario.name, "fault": "", "problem": f"stage: {_last_line(broken)}"}
                return
            if "places" in job:
                yield self._try(scenario, *place)
            else:
                yield self._explore(scenario, place, judged=not job.get("walk_only"))

    def _set_stage(self, scenario: Any) -> None:
        from tests.crash import trial

        if self._stage != scenario.name or self._bench.is_worn():
            self._stage = ""
            trial.set_stage(self._bench, scenario)
            self._stage = scenario.name

    def _explore(self, scenario: Any, fault: str, *, judged: bool) -> dict[str, Any]:
        """Walk without a death: which points there are, and that the end is right."""
        from tests.crash import trial

        answer: dict[str, Any] = {"scenario": scenario.name, "fault": fault, "labels": [], "within": []}
        answer["deaths"] = scenario.deaths
        try:
            walked = trial.walk(self._bench, scenario, fault, trial.Place())
        except AssertionError as broken:
            return answer | {"problem": f"walk: {_last_line(broken)}"}
        answer |= {"labels": walked.labels, "within": walked.within}
        if walked.elsewhere:
            return answer | {"problem": f"walk: {walked.elsewhere}"}
        if not judged:
            return answer | {"problem": ""}
        problem = trial.judge(self._bench, scenario, finished=False)
        # What the walk itself has ended needs nobody to end it.
        unaided = self._bench.is_done()
        if not problem and not unaided:
            _, problem = trial.recover(self._bench, scenario)
        if not problem and unaided and not fault:
            problem = trial.judge_replaced(scenario)
        return answer | {"problem": problem or trial.judge(self._bench, scenario, alone=not fault)}

    def _try(self, scenario: Any, fault: str, label: str, occurrence: int) -> dict[str, Any]:
        from tests.crash import trial

        place = trial.Place(label, occurrence)
        said = {"scenario": scenario.name, "fault": fault, "label": label, "occurrence": occurrence}
        problem, took_s = "", 0.0
        for _ in range(TRIES):
            try:
                one = trial.run(self._bench, scenario, fault, place)
            except AssertionError as broken:
                # At once: another try might take another road, and nobody would ever know.
                return said | {
                    "reached": False,
                    "rounds": 0,
                    "problem": f"walk: {_last_line(broken)}",
                    "took_s": took_s,
                }
            took_s += one.took_s
            if one.reached:
                return said | {
                    "reached": True,
                    "rounds": one.rounds,
                    "problem": one.problem,
                    "took_s": took_s,
                }
            problem = f"walk: {one.elsewhere}" if one.elsewhere else ""
        return said | {"reached": False, "rounds": 0, "problem": problem, "took_s": took_s}


def _last_line(broken: AssertionError) -> str:
    """The line of a traceback that names the error; a database's goes on below it."""
    lines = [line for line in str(broken).splitlines() if line.strip()]
    named = [line for line in lines if NAMED.match(line)]
    return (named or lines or ["no words"])[-1]


if __name__ == "__main__":
    sys.exit(main())
