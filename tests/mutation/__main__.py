"""`make mutation`: small changes of the code that guards money, each of which a test has to notice.

Ends with 0 when every group has at least 90 % of its mutants killed and no judgement of docs/mutation.md
was refuted, with 1 when not, with 2 when asked for something that is not there or for no mutant, with 3 when
it ended early. Results, measurements and the worker's log are in var/mutation/.
"""

import argparse
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation import report, scope
from tests.mutation.forks import stay_nice
from tests.mutation.mutants import ROOT, Mutant, Source
from tests.mutation.run import Found, Run, Worker, WorkerError

FOLDER = ROOT / "var" / "mutation"
BUDGET_S = 45.0
SAY_EVERY_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    stay_nice()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: a report of what was done
    try:
        files = scope.files(options.only)
    except LookupError as unknown:
        _say(f"no group or module {unknown}; there are: {', '.join([*scope.GROUPS, *scope.files()])}")
        return 2
    mutants = _drawn(files, options)
    if not mutants:
        _say("no mutant was chosen: there is nothing to show to any test")
        return 2
    kept = report.Kept(options.folder / "results.jsonl")
    known = report.judged()
    ended_early = ""
    try:
        for group in scope.GROUPS:
            todo = [one for one in mutants if scope.group_of(_file(one)) == group]
            todo = [one for one in todo if not _is_done(one, kept, options, known)]
            todo.sort(key=lambda one: not one.function)  # what is outside of functions costs an import each
            if todo:
                _go(group, todo, kept, options)
    except (KeyboardInterrupt, WorkerError) as ended:
        ended_early = str(ended) or "interrupted"
    told = report.summary([kept.found[one.key] for one in mutants if one.key in kept.found], known)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "report.json").write_text(report.as_json(told) + "\n")
    sys.stdout.write((report.as_json(told) if options.json else report.table(told)) + "\n")
    if ended_early:
        _say(f"ended early: {ended_early}")
        return 3
    return int(report.has_failed(told))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutation ARGS=...", description=__doc__)
    parser.add_argument(
        "--only", action="append", help="a group, a module or a folder; may be given again", metavar="NAME"
    )
    parser.add_argument("--sample", type=int, help="only so many mutants, drawn at random", metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="draws another sample")
    parser.add_argument("--resume", action="store_true", help="mutants with a result are not shown again")
    parser.add_argument(
        "--again", action="store_true", help="as --resume, but survivors are shown to further tests"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    parser.add_argument(
        "--budget",
        type=float,
        default=BUDGET_S,
        help=f"seconds of tests that one mutant is shown at most; default {BUDGET_S:.0f}",
        metavar="S",
    )
    parser.add_argument(
        "--tests", action="append", help="only these tests; may be given again", metavar="PATH"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where results and measurements go")
    return parser


def _drawn(files: list[str], options: argparse.Namespace) -> list[Mutant]:
    mutants = [mutant for file in files for mutant in Source(file).mutants]
    if options.sample is None or options.sample >= len(mutants):
        return mutants
    chosen = random.Random(options.seed).sample(range(len(mutants)), max(0, options.sample))
    return [mutants[at] for at in sorted(chosen)]


def _is_done(
    mutant: Mutant, kept: report.Kept, options: argparse.Namespace, known: dict[str, tuple[str, str]]
) -> bool:
    found = kept.found.get(mutant.key)
    if found is None or not (options.resume or options.again):
        return False
    return not options.again or found.verdict == "killed" or mutant.name in known


def _go(group: str, mutants: list[Mutant], kept: report.Kept, options: argparse.Namespace) -> None:
    tests = tuple(options.tests or scope.TESTS[group])
    _say(f"{group}: {len(mutants)} mutants; starting the parts and collecting tests")
    with Worker(scope.files(), tests, options.folder / "worker.log") as worker:
        run = Run(worker, options.folder / "passes.json", options.budget)
        _say(f"{len(worker.begun['tests'])} tests")
        for file in run.measure():
            if file in run.unwatched:
                _say(f"  died while it was watched, or was too late, and is left out: {file}")
            else:
                _say(f"  measured {file}")
        for name in run.failing():
            _say(f"  fails without any mutant, and is left out: {name}")
        _show(run, mutants, kept, dict(kept.found) if options.again else {})
        for name in sorted(run.unsteady):
            _say(f"  found something, but fails so without the mutant, and was left out: {name}")


def _show(run: Run, mutants: list[Mutant], kept: report.Kept, before: dict[str, Found]) -> None:
    begun_s = said_s = time.monotonic()
    verdicts: dict[str, str] = {}
    shown_again = 0
    for found in run.show(mutants, before, list(kept.found.values())):
        kept.add(found)
        shown_again += found.key in verdicts
        verdicts[found.key] = found.verdict
        now_s = time.monotonic()
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            killed = sum(verdict == "killed" for verdict in verdicts.values())
            _say(
                f"  {(now_s - begun_s) / 60:.0f} min: {len(verdicts)}/{len(mutants)} shown, {shown_again} of them"
                f" again to more tests, {killed} killed: {found.module}"
            )


def _file(mutant: Mutant) -> str:
    return mutant.module.replace(".", "/") + ".py"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
