"""`make run`: the whole stack in the foreground, on embedded servers where the environment names no others."""

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from ops.rehearsal import stack_chain, stack_commands, stack_env, stack_gateway, stack_panel, stack_tools
from ops.rehearsal.parts import Anvil, Part, PartError, Postgres, Valkey, port
from ops.rehearsal.parts.process import Command
from ops.rehearsal.stack_chain import CHAIN_PORT, ChainTerms, UsageError
from ops.rehearsal.stack_lock import RunningError, StackLock, end_orphans, tag
from ops.rehearsal.supervisor import Service, StoppedError, Supervisor

WEBHOOK_PORT = 8090
FIRST_PORTS = {"postgres": 54320, "valkey": 56379, "anvil": CHAIN_PORT, "gateway": stack_gateway.PORT}
MIGRATE_TIMEOUT_S = 120
SEED_TIMEOUT_S = 120
HEALTH_TIMEOUT_S = 2
# LIVE follows health by three looks at Redis; the panel should not speak too soon.
MODE_WAIT_S = 5
HEALTH_SAY_AFTER_S = 10


class Stack:
    """One clone's stack; everything it keeps is under `folder` (var/)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.terms = ChainTerms.from_environment()
        self.mode = (stack_env.given("EXEC_MODE") or "DRY").upper()
        self.webhook_port = webhook_port()
        self.urls = stack_env.given_urls(folder)
        self._gateway_port = stack_gateway.NONE
        self._began_at_s = time.monotonic()
        self._lock = StackLock(folder / "run.lock", "run")
        self._chain_lock = stack_chain.lock(folder, "run")
        self._supervisor = Supervisor(folder)
        self._values: dict[str, str] = {}

    def run(self) -> int:
        """Until Ctrl-C. Raises UsageError and RunningError before anything starts, PartError after."""
        self._lock.acquire()
        try:
            self._supervisor.listen()
            self._check()
            self._start()
            mode = stack_panel.mode_words(self._await_health())
            stack_panel.show(self._values, mode, self.folder, time.monotonic() - self._began_at_s)
            while True:
                self._supervisor.pause(1)
        except StoppedError:
            self._supervisor.say("stopping")
            self._supervisor.stop()
            self._supervisor.say(f"stopped: no process is left, the data stays in {self.folder.name}/")
            return 0
        finally:
            self._supervisor.stop()
            self._chain_lock.release()
            self._lock.release()

    def _check(self) -> None:
        """End what a killed supervisor left behind; refuse what cannot be."""
        stack_chain.require_chain_id()
        for orphan in end_orphans(self.folder, "run"):
            self._supervisor.say(f"ended a left-over of a killed stack: {orphan}")
        require_caps(self.mode)
        require_road(chain_given=bool(self.urls["BASE_RPC_URL"]))
        if not port.is_free(self.webhook_port, "0.0.0.0"):  # noqa: S104 -- where the webhook listens
            raise UsageError(
                f"port {self.webhook_port} is in use: stop what listens there, or choose another, "
                "such as PORT=8091 make run"
            )
        if self.urls["BASE_RPC_URL"]:
            stack_chain.require_rehearsal(self.urls["BASE_RPC_URL"])
            return
        try:
            self._chain_lock.acquire()
        except RunningError as running:
            hint = f"its chain is used by BASE_RPC_URL=http://127.0.0.1:{CHAIN_PORT} make run"
            raise UsageError(f"{running}; {hint}") from None

    def _start(self) -> None:
        supervisor = self._supervisor
        with_keeper = bool(not self.urls["BASE_RPC_URL"] or not self._chain_lock.is_held())
        self._start_parts()
        if not with_keeper:
            self._gateway_port = stack_gateway.NONE  # whoever keeps that chain may serve one
        known = stack_env.settled_secrets(self.folder / "secrets.json")
        env = stack_env.for_children(self.folder, "run", self.urls, known)
        env |= stack_gateway.variables(self._gateway_port)
        # No venue is known yet, and LIVE refuses to start without one.
        migrate = manage({**env, "EXEC_MODE": "DRY"}, "migrate", "--noinput", "--skip-checks")
        migrating = supervisor.run_once("migrate", migrate)
        try:
            rpc_url = self.urls["BASE_RPC_URL"].split(",")[0].strip()
            deployment = stack_chain.deployed(rpc_url, self.folder, self.terms)
        finally:
            supervisor.finish("migrate", migrating, MIGRATE_TIMEOUT_S)
        supervisor.say(f"database and contracts are ready ({self._age_s():.1f} s)")
        env |= stack_env.venue_variables(deployment)
        metrics = self.folder / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        # Processes take seconds to import what they need; the trader is seeded meanwhile.
        venue_record = self.folder / "chain.json"
        seed = manage(env, "seed_rehearsal", "--json", "--deployment", str(venue_record))
        seeding = supervisor.run_once("seed", seed)
        places = {
            "port": self.webhook_port,
            "rpc": rpc_url,
            "deployment": venue_record,
            "gateway_port": self._gateway_port,
        }
        rows = [name for name in stack_commands.SERVICES if name != "keeper" or with_keeper]
        # Without beat /health is not ok, so nobody takes a stack for ready that knows no trader yet.
        later = [] if (self.folder / "stack.env").exists() else ["beat"]
        try:
            supervisor.start(*(self._service(name, env, **places) for name in rows if name not in later))
        finally:
            words = supervisor.finish("seed", seeding, SEED_TIMEOUT_S)
        seeded = last_json(words)
        self._values = {
            **env,
            "WEBHOOK_URL": f"http://localhost:{self.webhook_port}",
            "TRADER_ADDRESS": seeded["trader_address"],
            "WALLET_ADDRESS": seeded["wallet_address"],
        }
        stack_env.publish(self.folder / "stack.env", self._values)
        supervisor.start(*(self._service(name, env, **places) for name in later))
        supervisor.say(f"processes are started ({self._age_s():.1f} s)")

    def _service(self, name: str, env: dict[str, str], **places: object) -> Service:
        return stack_commands.service(name, stack_env.detoured(self.folder, name, env), **places)

    def _start_parts(self) -> None:
        """The embedded servers that the environment leaves to us, side by side."""
        ports = self._ports()
        self._gateway_port = stack_gateway.port_of(ports["gateway"])
        postgres = Postgres(self.folder / "postgres", ports["postgres"])
        valkey = Valkey(self.folder / "valkey", ports["valkey"])
        anvil = stack_chain.node(self.folder, ports["anvil"], self.terms)
        parts: dict[str, Part] = {"DATABASE_URL": postgres, "REDIS_URL": valkey, "BASE_RPC_URL": anvil}
        own = {name: part for name, part in parts.items() if not self.urls[name]}
        stages = {"BASE_RPC_URL": stack_commands.STAGE_OF_CHAIN}
        mark = tag(self.folder, "run")
        self._supervisor.start(
            *(
                Service.of(part, stages.get(name, stack_commands.STAGE_OF_STORES), mark)
                for name, part in own.items()
            )
        )
        self.urls |= {name: part.url for name, part in own.items()}
        if "BASE_RPC_URL" in own:
            self._supervisor.every_tick(anvil.keep_copy)
        stack_tools.place(self.folder / "bin", postgres.programs, self.urls["REDIS_URL"])
        self._supervisor.say(
            f"{', '.join(part.name for part in own.values()) or 'nothing'} embedded ({self._age_s():.1f} s)"
        )

    def _ports(self) -> dict[str, int]:
        """Last time's ports where they are free, so that open tools stay connected; else the next ones."""
        # Servers of a killed stack may still hold them.
        for part in (
            Postgres(self.folder / "postgres"),
            Valkey(self.folder / "valkey"),
            *(
                []
                if self.urls["BASE_RPC_URL"]
                else [Anvil(self.folder / "chain", tools=self.folder / "tools")]
            ),
        ):
            part.end_orphans()
        kept_file = self.folder / "ports.json"
        kept: dict[str, int] = json.loads(kept_file.read_text()) if kept_file.exists() else {}
        ports = {name: port.next_free(kept.get(name, first)) for name, first in FIRST_PORTS.items()}
        kept_file.write_text(json.dumps(ports, indent=1) + "\n")
        return ports

    def _await_health(self) -> dict[str, object]:
        """Until the webhook calls the stack ok; says what is missing while it takes long. Answers the mode."""
        say_at_s = time.monotonic() + HEALTH_SAY_AFTER_S
        said = ""
        ok_since_s = 0.0
        while True:
            status, failing, mode = health(f"http://127.0.0.1:{self.webhook_port}/health")
            if status == "ok":
                as_wished = mode.get("mode") == mode.get("requested") or bool(mode.get("emergency_stop"))
                ok_since_s = ok_since_s or time.monotonic()
                if as_wished or time.monotonic() > ok_since_s + MODE_WAIT_S:
                    return mode
                self._supervisor.pause(0.1)
                continue
            words = f"health is {status} ({', '.join(failing)}); waiting, logs: {self.folder / 'log'}"
            if any("disagree" in check for check in failing):
                words += (
                    f"\n  {mode.get('reason')}\n  nothing is traded meanwhile; where the servers are embedded, "
                    "`make clean` begins anew with an empty database and chain"
                )
            if time.monotonic() > say_at_s and words != said:
                said = words
                self._supervisor.say(words)
            self._supervisor.pause(0.2)

    def _age_s(self) -> float:
        return time.monotonic() - self._began_at_s


def webhook_port() -> int:
    """PORT, or the contract's. Raises UsageError."""
    text = os.environ.get("PORT", "").strip() or str(WEBHOOK_PORT)
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004 -- what TCP has
        raise UsageError(f"PORT is not a port: {text!r}")
    return int(text)


def require_caps(mode: str) -> None:
    """Refuse LIVE where a cap was blanked, in words and at once; every process would, too. Raises UsageError."""
    if mode not in {"DRY", "LIVE"}:
        raise UsageError(f"EXEC_MODE must be DRY or LIVE: {mode!r}")
    blank = [name for name in stack_env.CAPS if not os.environ.get(name, "unset").strip(", ")]
    if mode == "LIVE" and blank:
        raise UsageError(
            f"EXEC_MODE=LIVE needs {', '.join(blank)}: set but blank. Give a value, or unset it for the rehearsal's"
        )


def require_road(*, chain_given: bool) -> None:
    """Refuse a road that leads nowhere. Raises UsageError."""
    try:
        wanted = stack_gateway.road()
    except ValueError as error:
        raise UsageError(str(error)) from None
    if wanted == "gateway" and chain_given and not stack_env.given(stack_gateway.URL):
        raise UsageError(
            f"VENUE=gateway with a chain of its own needs {stack_gateway.URL}: `VENUE=gateway make chain` serves one "
            "and writes it to chain.env"
        )


def manage(env: dict[str, str], *words: str) -> Command:
    return stack_commands.python(("manage.py", *words), env)


def last_json(words: str) -> dict[str, str]:
    """The last line that is a JSON object; log lines may stand around it. Raises PartError."""
    for line in reversed(words.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, str] = json.loads(line)
            except ValueError:
                continue
            if {"trader_address", "wallet_address"} <= found.keys():
                return found
    raise PartError(f"seed_rehearsal named no addresses:\n{words[-2000:]}")


def health(url: str) -> tuple[str, list[str], dict[str, object]]:
    """The status that /health gives, the checks that fail, and the execution mode."""
    try:
        with urllib.request.urlopen(url, timeout=HEALTH_TIMEOUT_S) as answer:  # noqa: S310 -- our own webhook
            body = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}", [], {}
    except (OSError, ValueError):
        return "not answering", [], {}
    failing = [
        f"{name}: {check.get('detail') or check.get('status')}"
        for name, check in body.get("checks", {}).items()
        if check.get("status") != "ok"
    ]
    return str(body.get("status")), failing, body.get("execution_mode", {})
