"""`make audit`: known vulnerabilities of every pinned package, looked up at PyPI or at OSV.

Ends with 0 when every package was looked up and none is known to be vulnerable, 1 when one is, 2 when the look-up
failed: what nobody could look up is not said to be clean. ARGS: --service osv, --osv-url URL, --ignore ID, --json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PINNED = ("requirements.txt", "requirements-dev.txt")
TIMEOUT_S = 15  # of one request
WITHIN_S = 900


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    files = options.file or [ROOT / name for name in PINNED]
    found: dict[str, Any] = {}
    for file in files:
        packages, why = look_up(file, options)
        if packages is None:
            print(
                f"audit: {file.name} could not be looked up, so nothing is said about it: {why}",
                file=sys.stderr,
            )
            return 2
        found |= {one["name"]: one for one in packages}
    vulnerable = {name: one for name, one in found.items() if one.get("vulns")}
    if options.json:
        print(json.dumps({"packages": len(found), "vulnerable": list(vulnerable.values())}, indent=1))
    else:
        for name, one in sorted(vulnerable.items()):
            for flaw in one["vulns"]:
                mended = ", ".join(flaw["fix_versions"]) or "no version yet"
                print(f"{name} {one['version']}: {flaw['id']}, mended in {mended}")
        print(f"{len(found)} packages looked up at {options.service}, {len(vulnerable)} vulnerable")
    return int(bool(vulnerable))


def look_up(file: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]] | None, str]:
    """Every package of a pinned file with what is known about it; None and the reason where one was not looked up."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "audit.json")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--strict"]
        command += ["-r", str(file), "-s", options.service, "--timeout", str(TIMEOUT_S)]
        command += ["--progress-spinner", "off", "-f", "json", "-o", str(answer), "--cache-dir", folder]
        command += ["--osv-url", options.osv_url] if options.osv_url else []
        for one in options.ignore:
            command += ["--ignore-vuln", one]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        if not answer.exists():
            return None, (done.stderr.strip().splitlines() or ["no words"])[-1]
        packages: list[dict[str, Any]] = json.loads(answer.read_text("utf-8"))["dependencies"]
    skipped = [one["name"] for one in packages if "version" not in one]
    return (None, f"left out: {', '.join(skipped)}") if skipped else (packages, "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make audit ARGS=...", description=__doc__)
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi")
    parser.add_argument("--osv-url", default="", help="of another OSV server, such as a mirror")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ID", help="a flaw that does not concern us"
    )
    parser.add_argument(
        "--file", action="append", type=Path, help="a pinned file; default both of the project"
    )
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
