"""A backup becomes the database: made beside the present one, closed there, then given its name in one commit.

Whatever is killed at whatever moment, one database stands under the name that everybody
uses: the former one until the commit of the swap, and the closed copy after it. The
former one is kept under another name. It serves others until that commit, so it is looked
at once more behind it; where that was killed `manage.py resume` and the next restore do it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis
import structlog
from django.conf import settings
from django.core.management import call_command
from django.db import Error as DatabaseError
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from execution_app.engine import restored
from execution_app.errors import Refused, Retryable
from execution_app.gate import control, restore_points, watch
from execution_app.gate.restore_points import Copy, Former, Held
from execution_app.models import AuditEntry, RestorePoint, Wallet
from execution_app.states import Origin, RestrictionKind
from ops.rollout import backup_check, postgres_tools, roles
from ops.rollout.backups import Backup
from ops.rollout.grants import ROLES
from ops.rollout.postgres_tools import Connection, Place

log = structlog.get_logger(__name__)

RESTORING, BEFORE = "restoring", "before"
REDIS_TIMEOUT_S = 1.0
END_SESSIONS_EVERY_S = 0.05
FORGOTTEN_LIMIT = 200  # actions of operators that are named

Step = Callable[[str], object]


@dataclass
class Outcome:
    """What a restore did. `forgotten` are operators' actions since the backup, which a person has to repeat."""

    database: str
    former: str
    epoch: int = 0
    point: RestorePoint = field(default_factory=RestorePoint)
    forgotten: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sessions(place: Place) -> list[str]:
    """Who is connected to the database, apart from this command."""
    with place.connected() as session:
        rows = session.execute(
            "SELECT pid, usename, application_name, coalesce(client_addr::text, 'socket') FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend' ORDER BY pid",
            [place.name],
        ).fetchall()
    return [
        f"pid {pid} of {user} {name} from {address}".replace("  ", " ") for pid, user, name, address in rows
    ]


def require(made: Backup) -> None:
    """That this backup may become the database of this deployment. Raises Refused."""
    whole = backup_check.of_bytes(made)
    if whole.status != "ok":
        raise Refused(f"the backup is damaged: {whole.detail}")
    if made.chain_id != settings.ENVIRONMENT.chain_id:
        raise Refused(f"the backup is of chain {made.chain_id}, CHAIN_ID is {settings.ENVIRONMENT.chain_id}")
    known = set(MigrationLoader(None).disk_migrations)
    ours = {app for app, _ in known}
    newer = [
        f"{app}.{name}" for app, name in made.contents.migrations if app in ours and (app, name) not in known
    ]
    if newer:
        raise Refused(f"the backup is of a newer version: this one does not know {', '.join(newer)}")


def restore(made: Backup, *, by: str, reason: str, terminate: bool, step: Step = lambda _: None) -> Outcome:
    """Put the backup in the database's place, closed. `step` is told of each step when it is done.

    Raises Refused, where nothing has changed but that the stack may be stopped, and Retryable where the server is away.
    """
    require(made)
    place = Place.configured()
    connection.close()
    with place.connected() as session, postgres_tools.alone(session):
        postgres_tools.drop_leftovers(session, f"{place.name}_{RESTORING}_")
        present = postgres_tools.exists(session, place.name)
        if present and not terminate:
            _require_nobody(place)
        staging = postgres_tools.beside(place.name, RESTORING)
        former_name = postgres_tools.beside(place.name, BEFORE) if present else ""
        try:
            postgres_tools.create(session, staging, place.name)
            step("made")
            postgres_tools.restore_into(place, made.path, staging)
            step("filled")
            if wrong := backup_check.compare(place, staging, made.contents):
                raise Refused(f"what came out of the backup is not what went in: {'; '.join(wrong)}")
            with postgres_tools.pointed_at(staging):
                call_command("migrate", verbosity=0, interactive=False)
                step("migrated")
            former, outcome = _leave(session, made, former_name, by, reason)
            step("left")
            with postgres_tools.pointed_at(staging):
                outcome.point = restore_points.close(Copy(made.taken_at, made.sha256, by, reason), former)
                step("closed")
                outcome.epoch = outcome.point.epoch
                outcome.notes += _give_rights(session)
            _swap(session, place, staging, former_name, terminate=terminate, step=step)
        except DatabaseError as error:
            raise Refused(
                f"the copy could not be made ready: {type(error).__name__}: {error}".strip()
            ) from None
        finally:
            # Under its last name it is gone already, unless something failed.
            postgres_tools.drop(session, staging)
        step("swapped")
        if former_name:
            _look_again(session, outcome, former.audit_seq or int(made.contents.audit_head[0]))
    log.warning("database restored; it is closed", database=place.name, former=former_name, by=by)
    return outcome


def _require_nobody(place: Place) -> None:
    if found := sessions(place):
        raise Refused(f"{len(found)} sessions are connected (--terminate ends them): {'; '.join(found[:5])}")


def _leave(
    session: Connection, made: Backup, former_name: str, by: str, reason: str
) -> tuple[Former, Outcome]:
    """Stop the former database's stack, then read what the copy must not fall behind. One that is broken says nothing."""
    outcome = Outcome(Place.configured().name, former_name)
    epoch, nonces = _outside(outcome)
    if not former_name:
        return Former("", epoch, nonces), outcome
    try:
        # From here on nobody signs by it. What is set in it is read once more when it has lost its name.
        control.impose(RestrictionKind.STOP, Origin.COMMAND, by=by, reason=f"restore: {reason}"[:400])
        _finish_earlier(session, outcome)
        former = _read(former_name, epoch, nonces)
        outcome.forgotten += _forgotten(int(made.contents.audit_head[0]))
    except DatabaseError as error:
        outcome.notes.append(_unreadable(error))
        return Former(former_name, epoch, nonces), outcome
    finally:
        connection.close()
    return former, outcome


def _unreadable(error: DatabaseError) -> str:
    return f"the former database could not be read ({type(error).__name__}); it is kept all the same"


def _read(name: str, epoch: int = 0, next_nonces: Mapping[str, int] | None = None) -> Former:
    """What the database that Django's connection is on knows, and at least what was known before."""
    nonces = dict(next_nonces or {})
    for wallet in Wallet.objects.order_by("pk"):
        key = f"{wallet.chain_id}:{wallet.address}"
        # A copy that was restored before knows of more than it gave away itself.
        nonces[key] = max(nonces.get(key, 0), wallet.next_nonce, wallet.seen_next_nonce or 0)
    held = [
        Held(RestrictionKind(row.kind), Origin(row.origin), row.set_by, row.reason)
        for row in control.active()
    ]
    seq, head = AuditEntry.objects.order_by("-seq").values_list("seq", "hash").first() or (0, "")
    return Former(name, max(epoch, control.epoch()), nonces, held, seq, f"{seq}:{head}")


def _look_again(session: Connection, outcome: Outcome, since: int) -> None:
    """Take over what was set in the former database last; it is the copy's, whatever happens here."""
    try:
        _take_over(session, outcome, since)
        outcome.epoch = control.epoch()
    except (DatabaseError, psycopg.Error) as error:
        problem = f"{outcome.former} was not looked at once more ({type(error).__name__})"
        log.exception("the former database was not looked at once more", former=outcome.former)
        outcome.notes.append(f"{problem}: what was set in it last is taken over by manage.py resume")


def _take_over(session: Connection, outcome: Outcome, since: int) -> None:
    former = Former(outcome.point.former)
    if not postgres_tools.exists(session, former.name):
        outcome.notes.append(f"{former.name} is gone: nobody knows what was set in it last")
    else:
        try:
            with postgres_tools.pointed_at(former.name):
                former = _read(former.name)
                told = _forgotten(since)
            outcome.forgotten += [one for one in told if one not in outcome.forgotten]
        except OperationalError:
            raise  # It may answer later.
        except DatabaseError as error:
            if _unreadable(error) not in outcome.notes:
                outcome.notes.append(_unreadable(error))
    taken = [f"{one.kind} of {one.origin}" for one in restore_points.take_over(outcome.point, former)]
    if taken:
        outcome.notes.append(f"set while the copy was made ready, taken over: {', '.join(taken)}")


def finish(session: Connection) -> Outcome | None:
    """Look at the former database of a restore that was killed before it; None where there was none."""
    point = restore_points.unread()
    if point is None:
        return None
    outcome = Outcome(Place.configured().name, point.former, point.epoch, point)
    # Nobody was told what was forgotten, so all of it is.
    _take_over(session, outcome, restore_points.audit_seq(point))
    return outcome


def _finish_earlier(session: Connection, outcome: Outcome) -> None:
    """The same where it is this database's turn to be replaced, of which the copy then learns."""
    try:
        if earlier := finish(session):
            outcome.forgotten += earlier.forgotten
            outcome.notes += earlier.notes
    except (DatabaseError, psycopg.Error) as error:
        problem = type(error).__name__
        outcome.notes.append(f"what a restore before this one may have left was not looked at ({problem})")


def _outside(outcome: Outcome) -> tuple[int, dict[str, int]]:
    """The epoch that Redis holds, and the nonces of the record that is kept outside of the database."""
    sight = restored.load()
    try:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=None,
        )
        raw = client.get(watch.EPOCH_KEY)
        client.close()
        epoch = int(raw) if isinstance(raw, bytes) else 0
    except (redis.RedisError, OSError, ValueError) as error:
        outcome.notes.append(f"Redis did not say its epoch ({type(error).__name__})")
        epoch = 0
    return max(0, epoch), dict(sight.next_nonces) if sight else {}


def _forgotten(since: int) -> list[dict[str, Any]]:
    """What operators did since: caps, bans, revoked tokens are as they were before that."""
    later = AuditEntry.objects.filter(seq__gt=since).order_by("seq")
    rows = later.values_list("at", "action", "subject", "actor")[:FORGOTTEN_LIMIT]
    return [
        {"at": at.isoformat(), "action": action, "subject": subject, "by": actor}
        for at, action, subject, actor in rows
    ]


def _give_rights(session: Connection) -> list[str]:
    """A dump knows nothing of roles: where the server has ours they get their rights in the copy, too."""
    rows = session.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)]).fetchall()
    if not rows:
        return ["no group roles on this server: the rights are the owner's alone (manage.py roles apply)"]
    roles.apply()
    return []


def _swap(
    session: Connection, place: Place, staging: str, former_name: str, *, terminate: bool, step: Step
) -> None:
    """Both names in one transaction. Newcomers wait for its end meanwhile, by PostgreSQL's lock on the database."""
    connection.close()
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    name, new, old = (sql.Identifier(word) for word in (place.name, staging, former_name or "-"))
    try:
        with _ending_sessions(place, terminate and bool(former_name)), session.transaction():
            if former_name:
                session.execute(rename.format(name, old))
                step("set aside")
            session.execute(rename.format(new, name))
            step("renamed")
    except psycopg.errors.ObjectInUse:
        found = "; ".join(sessions(place)[:5])
        raise Refused(f"somebody is connected to {place.name} (--terminate ends them): {found}") from None
    except psycopg.Error as error:
        raise Refused(f"the names were not exchanged: {error}".strip()) from None


@contextmanager
def _ending_sessions(place: Place, wanted: bool) -> Iterator[None]:
    """End whoever is connected to the database, again and again: the rename holds off others once it has its lock."""
    if not wanted:
        yield
        return
    ended = threading.Event()

    def end() -> None:
        try:
            with place.connected() as session:
                while not ended.is_set():
                    session.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = %s AND backend_type = 'client backend'",
                        [place.name],
                    )
                    ended.wait(END_SESSIONS_EVERY_S)
        except (psycopg.Error, Retryable) as error:
            # The rename then says who is connected still.
            log.warning("sessions could not be ended", problem=str(error)[:200])

    thread = threading.Thread(target=end, name="restore-sessions", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
