"""Embedded servers of a rehearsal: PostgreSQL, Valkey and an EVM node, without root, Docker or system packages.

Each part prepares its own folder, names the command that runs it in the foreground and can
be started by a test (`with Postgres(folder) as postgres: ...`) or owned by a supervisor.
Nothing here imports Django.
"""

from ops.rehearsal.parts.anvil import Anvil
from ops.rehearsal.parts.part import Part, PartError
from ops.rehearsal.parts.postgres import Postgres
from ops.rehearsal.parts.process import Child, Command
from ops.rehearsal.parts.valkey import Valkey

__all__ = ["Anvil", "Child", "Command", "Part", "PartError", "Postgres", "Valkey"]
