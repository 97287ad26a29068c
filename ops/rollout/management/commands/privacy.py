"""`manage.py privacy`: what is kept about a person, handed out or pseudonymised."""

import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from execution_app import audit, people
from execution_app.errors import Refused, Retryable
from ops.rollout import privacy, rewriting
from ops.rollout.management.commands.archive import FOLDER
from ops.rollout.operator import account

STILL_ARCHIVED = 3


class Command(BaseCommand):
    help = (
        "export: one ZIP of everything kept about a Telegram user. pseudonymise: their id is replaced by a random number "
        "for good, once nothing of theirs is open. rewrite: archives without whoever was forgotten since. who: whose a "
        "pseudonym is. Exit status: 0 done, 1 refused, 3 done, and the archives that are named have the id still "
        "(docs/privacy.md)."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb in ("export", "pseudonymise"):
            one = verbs.add_parser(verb)
            one.add_argument("tg_user_id", type=int)
            one.add_argument("--by", default=account(), help="who does it")
            one.add_argument("--reason", required=True, help="why; kept in the audit log")
            one.add_argument("--json", action="store_true", help="one JSON object instead of lines")
            if verb == "export":
                one.add_argument("--to", type=Path, required=True, help="the ZIP, which must not exist yet")
            else:
                one.add_argument(
                    "--yes", action="store_true", help="without this it only says what is in the way"
                )
        rewrite = verbs.add_parser("rewrite")
        rewrite.add_argument("files", nargs="+", metavar="FILE", help="as pseudonymise names them")
        rewrite.add_argument(
            "--in", type=Path, default=FOLDER, dest="folder", metavar="FOLDER", help="default: archives"
        )
        rewrite.add_argument("--by", default=account(), help="who does it")
        rewrite.add_argument("--reason", required=True, help="why; kept in the audit log")
        rewrite.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        rewrite.add_argument("--yes", action="store_true", help="without this it only says what would change")
        who = verbs.add_parser("who")
        who.add_argument("pseudonym", type=int)

    def handle(self, *_args: Any, **options: Any) -> None:
        with audit.acting(audit.operator(options.get("reason", ""))):
            try:
                getattr(self, f"_{options['verb']}")(options)
            except (Refused, Retryable) as problem:
                raise CommandError(str(problem)) from None

    def _export(self, options: dict[str, Any]) -> None:
        path: Path = options["to"]
        try:
            # Nobody else reads it, from its first byte on.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise CommandError(f"{path} is there already") from None
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}", returncode=2) from None
        try:
            with os.fdopen(handle, "w+b") as file:
                counts = privacy.export(
                    options["tg_user_id"], file, by=options["by"], reason=options["reason"]
                )
        except BaseException:
            path.unlink()  # half of what is kept about somebody is not left lying about
            raise
        self._tell(options, counts, f"written to {path}: hand it over by a way that nobody else reads")

    def _pseudonymise(self, options: dict[str, Any]) -> None:
        tg_user_id = options["tg_user_id"]
        if not options["yes"]:
            standing = privacy.obstacles(tg_user_id)
            words = f"in the way: {', '.join(standing)}" if standing else "nothing is in the way"
            if files := privacy.archived(tg_user_id):
                words += f"; their id stays in {', '.join(files)}"
            raise CommandError(f"{words}; it cannot be taken back, so it takes --yes")
        done = privacy.pseudonymise(tg_user_id, by=options["by"], reason=options["reason"])
        if options["json"]:
            self.stdout.write(json.dumps({**done.rows, "in_archives": done.archives}))
        else:
            self._tell(
                options, done.rows, "forgotten; backups made before have the id until they are deleted"
            )
        if done.archives:
            raise CommandError(
                f"forgotten in the database, and not in {', '.join(done.archives)}: manage.py privacy rewrite "
                "takes these, and docs/privacy.md says when",
                returncode=STILL_ARCHIVED,
            )

    def _rewrite(self, options: dict[str, Any]) -> None:
        folder = options["folder"].absolute()
        done: list[rewriting.Rewritten] = []
        try:
            for name in options["files"]:
                if options["yes"]:
                    who = {"by": options["by"], "reason": options["reason"]}
                    done.append(rewriting.rewrite(folder, name, **who))
                else:
                    done.append(rewriting.look(folder, name))
        finally:
            # Each file is by itself, so those before one that is refused are told, too.
            counts = {one.file: one.changed for one in done}
            if options["json"]:
                self.stdout.write(json.dumps(counts))
            for one in done if not options["json"] else ():
                self.stdout.write(f"{one.file}: {one.changed:,} of {one.rows:,} rows")
        if not options["yes"]:
            raise CommandError("nothing was changed; it takes --yes")

    def _who(self, options: dict[str, Any]) -> None:
        found = people.whose({options["pseudonym"]}).get(options["pseudonym"])
        if found is None:
            raise CommandError("nobody knows any more, or nobody ever was")
        self.stdout.write(f"telegram {found}")

    def _tell(self, options: dict[str, Any], counts: dict[str, int], said: str) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(counts))
            return
        for name, count in counts.items():
            self.stdout.write(f"{name}: {count:,}")
        self.stdout.write(said)
