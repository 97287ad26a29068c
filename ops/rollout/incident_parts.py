"""What an incident's archive is made of: each part by itself, within its time, away or not.

Every collector answers named texts. It raises Away where its server or file does not answer: the archive then says
so, and has the rest. Nothing here goes through Django's connection, and nothing is changed anywhere.
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis
import urllib3
from django.conf import settings
from psycopg import sql
from pydantic import SecretStr

from execution_app.errors import Retryable
from ops.rollout.grants import TABLES
from ops.rollout.postgres_tools import Connection, Place

CONNECT_S = 3
HTTP_S = 8.0
QUERY_S = 15
COMPOSE_S = 60
HASHES = 100  # of sends whose receipts are asked for
SERVICES = ("webhook", "worker", "tpsl", "beat", "bot", "db", "redis")
QUEUES = ("celery", "tpsl")
# Of PostgreSQL itself: who does what and who waits for whom, and how much there is. A statement's text goes as far as
# its first quotation mark: what is quoted may be a secret on its way to its column.
SERVER_VIEWS = {
    "sessions": "SELECT pid, usename, application_name, state, wait_event_type, wait_event, xact_start, query_start,"
    " pg_blocking_pids(pid) AS blocked_by, left(split_part(query, '''', 1), 500) AS query FROM pg_stat_activity"
    " WHERE datname = current_database() ORDER BY xact_start LIMIT 200",
    "locks": "SELECT pid, locktype, mode, granted, relation::regclass::text AS relation FROM pg_locks"
    " WHERE NOT granted LIMIT 200",
    "sizes": "SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) AS bytes"
    " FROM pg_stat_user_tables ORDER BY 4 DESC",
}


class Away(Exception):  # noqa: N818 -- named by what it means
    """A part could not be asked; the text says which and why, without addresses."""


@dataclass(frozen=True)
class Limits:
    """How much is taken: rows of a table, newest first, and bytes of a log, from its end."""

    rows: int = 2_000
    log_bytes: int = 4_000_000


Texts = dict[str, str]
Collector = Callable[[], Texts]


def configuration() -> Texts:
    """Which variable says what; of a secret only whether it is there."""
    environment = settings.ENVIRONMENT
    told: dict[str, object] = {}
    for name in type(environment).model_fields:
        value = getattr(environment, name)
        if isinstance(value, SecretStr):
            told[name.upper()] = "set" if value.get_secret_value() else "not set"
        else:
            told[name.upper()] = None if value is None else str(value)
    told["BASE_RPC_URL"] = f"{len(environment.rpc_urls)} endpoint(s)"
    return {"configuration.json": _json(told)}


def web(url: str) -> Texts:
    """`/health` and `/metrics` as the webhook answers them."""
    http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=HTTP_S))
    found = {}
    for path, name in (("/health", "health.json"), ("/metrics", "metrics.txt")):
        try:
            found[name] = http.request("GET", f"{url}{path}").data.decode(errors="replace")
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Away(f"the webhook does not answer {path}: {type(error).__name__}") from None
    return found


def log_files(folder: Path, limits: Limits) -> Texts:
    """The ends of the files of `make run`, and which processes there were."""
    paths = sorted((folder / "log").glob("*.log"))
    if not paths:
        raise Away(f"there are no logs in {folder.name}/log")
    found = {f"logs/{path.name}": _end(path, limits.log_bytes) for path in paths}
    try:
        found["processes.json"] = (folder / "pids.json").read_text()
    except OSError as error:
        found["processes.json"] = _json({"away": f"pids.json: {error.strerror}"})
    return found


def compose_logs(command: Sequence[str], limits: Limits) -> Texts:
    """What `docker compose logs` has of each service, and its list of services."""
    found = {"processes.txt": _compose(*command, "ps", "--all")}
    for name in SERVICES:
        told = _compose(*command, "logs", "--no-color", "--timestamps", "--tail", "20000", name)
        found[f"logs/{name}.log"] = told[-limits.log_bytes :]
    return found


def database(limits: Limits) -> Texts:
    """One snapshot: the newest rows of what people may read, and what the server does."""
    try:
        with Place.configured().connected(Place.configured().name) as session:
            session.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(QUERY_S * 1000)))
            with session.transaction():
                session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                found = {
                    f"database/server/{name}.jsonl": _rows(session, sql.SQL(words))
                    for name, words in SERVER_VIEWS.items()
                }
                for table in sorted(TABLES):
                    if query := _newest(session, table, limits.rows):
                        found[f"database/{table}.jsonl"] = _rows(session, query)
                return found
    except (Retryable, psycopg.Error) as error:
        why = "no connection" if isinstance(error, Retryable) else type(error).__name__
        raise Away(f"the database does not answer: {why}") from None


def _newest(session: Connection, table: str, rows: int) -> sql.Composed | None:
    """The newest rows with the columns that people who look may read; never bytes, which are signed or sealed."""
    rights = TABLES[table].readonly
    if rights.select is None:
        return None
    described = session.execute(
        "SELECT a.attname, a.atttypid = 'bytea'::regtype,"
        " coalesce(a.attnum = ANY(i.indkey::int2[]), false)"
        " FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary"
        " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        [f"public.{table}"],
    ).fetchall()
    columns = [name for name, is_bytes, _ in described if not is_bytes]
    columns = [name for name in columns if not rights.select or name in rights.select]
    if not columns:
        return None
    key = [sql.SQL("{} DESC").format(sql.Identifier(name)) for name, _, is_key in described if is_key]
    order = sql.SQL(" ORDER BY ") + sql.SQL(", ").join(key) if key else sql.SQL("")
    return sql.SQL("SELECT {} FROM public.{}{} LIMIT {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table), order, sql.Literal(rows)
    )


def _rows(session: Connection, query: sql.Composable) -> str:
    words = sql.SQL("SELECT to_jsonb(found)::text FROM ({}) AS found").format(query)
    return "".join(f"{line}\n" for (line,) in session.execute(words))


def redis_state() -> Texts:
    """The mode key, how long the queues are, and what the server says of itself."""
    client = redis.Redis.from_url(
        settings.ENVIRONMENT.redis_url.get_secret_value(),
        socket_timeout=CONNECT_S,
        socket_connect_timeout=CONNECT_S,
        retry=None,
        decode_responses=True,
    )
    try:
        told: dict[str, Any] = {
            "exec_mode": client.get("exec_mode"),
            "keys": client.dbsize(),
            "queues": {name: client.llen(name) for name in QUEUES},
            "info": client.info(),
        }
    except (redis.RedisError, OSError) as error:
        raise Away(f"Redis does not answer: {type(error).__name__}") from None
    finally:
        client.close()
    return {"redis.json": _json(told)}


def chain(database_texts: Mapping[str, str]) -> Texts:
    """What each endpoint says of its head, our wallets and the newest sends, whose names the snapshot has."""
    wallets = sorted({str(row["address"]) for row in _lines(database_texts, "wallets")})
    hashes = [str(row["tx_hash"]) for row in _lines(database_texts, "tx_sends")][:HASHES]
    told, silent = [], []
    for position, url in enumerate(settings.ENVIRONMENT.rpc_urls):
        try:
            told.append(_endpoint(url, position, wallets, hashes))
        except (OSError, ValueError, KeyError, urllib3.exceptions.HTTPError) as error:
            silent.append(f"endpoint {position}: {type(error).__name__}")
            told.append({"endpoint": position, "away": type(error).__name__})
    if silent and len(silent) == len(told):
        raise Away(f"no node answers: {'; '.join(silent)}")
    return {"chain.json": _json({"wallets_known": bool(wallets), "endpoints": told})}


def _endpoint(url: str, position: int, wallets: list[str], hashes: list[str]) -> dict[str, Any]:
    http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=CONNECT_S, read=HTTP_S))

    def ask(method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = json.loads(http.request("POST", url, json=body).data)
        return answer["result"] if "result" in answer else answer["error"]

    def block(tag: str) -> Any:
        found = ask("eth_getBlockByNumber", tag, False)
        facts = ("number", "hash", "parentHash", "timestamp")
        return {name: found.get(name) for name in facts} if isinstance(found, dict) else found

    return {
        "endpoint": position,
        "chain_id": ask("eth_chainId"),
        "latest": block("latest"),
        "finalized": block("finalized"),
        "wallets": {
            address: {
                "latest": ask("eth_getTransactionCount", address, "latest"),
                "pending": ask("eth_getTransactionCount", address, "pending"),
                "balance_wei": ask("eth_getBalance", address, "latest"),
            }
            for address in wallets
        },
        "receipts": {tx_hash: ask("eth_getTransactionReceipt", tx_hash) for tx_hash in hashes},
    }


def _lines(texts: Mapping[str, str], table: str) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in texts.get(f"database/{table}.jsonl", "").splitlines())


def _end(path: Path, limit: int) -> str:
    with path.open("rb") as source:
        source.seek(max(0, path.stat().st_size - limit))
        return source.read(limit).decode(errors="replace")


def _compose(*words: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- the operator's own command
            words, capture_output=True, text=True, timeout=COMPOSE_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Away(f"compose: {type(error).__name__}") from None
    if done.returncode != 0:
        raise Away(f"compose ended with {done.returncode}")
    return done.stdout


def _json(told: object) -> str:
    return json.dumps(told, indent=1, default=str) + "\n"
