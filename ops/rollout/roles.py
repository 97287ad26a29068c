"""The group roles on the server: made as ops/rollout/grants.py says, and compared with it."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection, transaction
from psycopg import sql

from execution_app import audit
from execution_app.audit_words import AuditAction
from ops.rollout.grants import ROLES, TABLES

PUBLIC = "PUBLIC"
_ATTRIBUTES = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolbypassrls", "rolreplication", "rolcanlogin")
_LOCK = 7_302_115  # any number of ours: one `apply` at a time
_MEMBERS = "SELECT member.rolname FROM pg_auth_members m JOIN pg_roles member ON member.oid = m.member JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname = ANY(%s) AND member.rolname <> ALL(%s) AND NOT member.rolsuper"
# Every right that somebody but the owner has to a table or to one of its columns.
_HELD = """
SELECT c.relname, '' AS part, a.grantee, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND a.grantee <> c.relowner
UNION ALL
SELECT c.relname, t.attname, a.grantee, a.privilege_type FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid,
aclexplode(t.attacl) a WHERE c.relnamespace = 'public'::regnamespace AND NOT t.attisdropped AND a.grantee <> c.relowner
"""


@dataclass(frozen=True, order=True)
class Grant:
    """One right: who, to which table, and to which column (blank: the whole table)."""

    role: str
    table: str
    column: str
    privilege: str

    def __str__(self) -> str:
        part = f"{self.table}({self.column})" if self.column else self.table
        return f"{self.role}: {self.privilege} on {part}"


@dataclass(frozen=True)
class Difference:
    """`wider` is what must not be, `missing` what a process will need, `unlisted` tables that no line speaks of."""

    wider: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        return not (self.wider or self.missing or self.unlisted)


def wanted() -> set[Grant]:
    return {
        Grant(role, table, column, privilege)
        for table, line in TABLES.items()
        for role in ROLES
        for privilege, column in line.of(role).wanted()
    }


def statements(database: str) -> Iterator[sql.Composed]:
    """Everything `apply` says after the roles exist; saying it again changes nothing."""
    every = sql.SQL(", ").join(sql.Identifier(role) for role in ROLES)
    name = sql.Identifier(database)
    # A temporary table or function could stand in front of ours.
    yield sql.SQL("REVOKE TEMPORARY, CREATE ON DATABASE {} FROM PUBLIC, {}").format(name, every)
    yield sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC, {}").format(every)
    yield sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, every)
    yield sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(every)
    yield sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {}").format(every)
    yield sql.SQL("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, {}").format(every)
    for table, line in sorted(TABLES.items()):
        for role in ROLES:
            yield from _grants(role, table, line.of(role).wanted())


def _grants(role: str, table: str, rights: set[tuple[str, str]]) -> Iterator[sql.Composed]:
    for privilege in sorted({privilege for privilege, _ in rights}):
        columns = sorted(column for named, column in rights if named == privilege and column)
        part = sql.SQL("")
        if columns:
            part = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))  # type: ignore[assignment]
        yield sql.SQL("GRANT {} {} ON {} TO {}").format(
            sql.SQL(privilege), part, sql.Identifier("public", table), sql.Identifier(role)
        )


def apply() -> list[str]:
    """Make roles and rights as the table says; returns the roles that are new.

    Raises ProgrammingError where the login may not create roles or does not own the tables.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)])
        known = {name for (name,) in cursor.fetchall()}
        new = [role for role in ROLES if role not in known]
        for role in new:
            cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        before = compare()
        for statement in statements(str(connection.settings_dict["NAME"])):
            cursor.execute(statement)
        if new or not before.is_none:
            changed = {"taken": list(before.wider), "given": len(before.missing), "new": new}
            audit.record(AuditAction.ROLES_APPLIED, "database roles", after=changed)
    return new


def compare() -> Difference:
    """What the server permits against what the table says, members of the roles and PUBLIC included."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )
        tables = {name for (name,) in cursor.fetchall()}
        cursor.execute("SELECT oid, rolname FROM pg_roles")
        names = {0: PUBLIC, **dict(cursor.fetchall())}
        cursor.execute(_MEMBERS, [list(ROLES), list(ROLES)])
        watched = {PUBLIC, *ROLES, *(name for (name,) in cursor.fetchall())}
        cursor.execute(_HELD)
        held = {
            Grant(names[grantee], table, part, privilege)
            for table, part, grantee, privilege in cursor.fetchall()
            if names.get(grantee) in watched
        }
        wider = [*map(str, sorted(held - wanted())), *_wider_powers(cursor, sorted(watched - {PUBLIC}))]
    missing = {grant for grant in wanted() - held if grant.table in tables}
    return Difference(
        tuple(wider), tuple(map(str, sorted(missing))), tuple(sorted(tables.symmetric_difference(TABLES)))
    )


def _wider_powers(cursor: "object", watched: list[str]) -> list[str]:
    """Powers beside those to tables: attributes, memberships, ownership, creating things."""
    execute, fetchall = cursor.execute, cursor.fetchall  # type: ignore[attr-defined]
    found: list[str] = []
    execute(f"SELECT rolname, {', '.join(_ATTRIBUTES)} FROM pg_roles WHERE rolname = ANY(%s)", [watched])  # noqa: S608
    for role, *powers in fetchall():
        mine = _ATTRIBUTES if role in ROLES else _ATTRIBUTES[:-1]  # a member may log in, a group may not
        found += [
            f"{role}: {name}" for name, has in zip(_ATTRIBUTES, powers, strict=True) if has and name in mine
        ]
    execute(
        "SELECT r.rolname, g.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member"
        " JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = ANY(%s) ORDER BY 1, 2",
        [watched],
    )
    found += [
        f"{role}: member of {group}" for role, group in fetchall() if group not in ROLES or role in ROLES
    ]
    execute(
        "SELECT r.rolname, c.relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = ANY(%s)",
        [watched],
    )
    found += [f"{role}: owner of {relation}" for role, relation in fetchall()]
    for role in watched:
        for question, what in (
            (
                "SELECT has_database_privilege(%s, current_database(), 'TEMPORARY')",
                "TEMPORARY on the database",
            ),
            ("SELECT has_database_privilege(%s, current_database(), 'CREATE')", "CREATE on the database"),
            ("SELECT has_schema_privilege(%s, 'public', 'CREATE')", "CREATE on the schema"),
        ):
            execute(question, [role])
            found += [f"{role}: {what}" for (has,) in fetchall() if has]
    return found
