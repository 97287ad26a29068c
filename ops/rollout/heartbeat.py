"""Whether a component beat lately: the health check of containers without a port.

    python -m ops.rollout.heartbeat worker

Answers 0 or 1 and why. Apart from Django, since it runs every half minute in every such container. A heartbeat
belongs to a component: of several workers, one that beats and works is enough.
"""

import os
import sys
from pathlib import Path

import psycopg

from ops.watch import liveness

WITHIN_S = 15
CONNECT_TIMEOUT_S = 3


def problem(database_url: str, component: str) -> str:
    """Why the component does not count as alive; blank when it does."""
    try:
        with psycopg.connect(database_url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            rows = connection.execute(liveness.QUESTION, liveness.PARAMETERS).fetchall()
    except psycopg.Error as error:
        return f"database: {type(error).__name__}"
    beats = {row[0]: liveness.Beat(*row) for row in rows}
    why = liveness.problem(beats.get(component), WITHIN_S)
    return f"{component} was {why}" if why else ""


def main() -> int:
    path = os.environ.get("DATABASE_URL_FILE", "").strip()
    url = Path(path).read_text(encoding="utf-8") if path else os.environ.get("DATABASE_URL", "")
    found = problem(url.strip(), sys.argv[1])
    sys.stdout.write(f"{found or 'alive'}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
