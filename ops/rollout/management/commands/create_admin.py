"""`manage.py create_admin NAME`: somebody who may log in to the admin site."""

import json
import secrets
import sys
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction

from execution_app import audit
from execution_app.audit_words import AuditAction
from ops.panel.roles import SiteRole, group

log = structlog.get_logger(__name__)

GENERATED_BYTES = 24


class Command(BaseCommand):
    help = (
        "Create somebody who may log in to the admin site: with --role one of its roles, a superuser without. Without --password-stdin a password is made and shown once. "
        "Exit code 1 where the name exists already or the password is too weak."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what is typed at login")
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input, one line"
        )
        parser.add_argument("--role", choices=[role.value for role in SiteRole], help="what they may do")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        parser.add_argument("--reason", default="", help="why, for the audit log")

    def handle(self, *_args: Any, **options: Any) -> None:
        user = User(username=options["name"], is_staff=True, is_superuser=options["role"] is None)
        given = options["password_stdin"]
        password = sys.stdin.readline().rstrip("\r\n") if given else secrets.token_urlsafe(GENERATED_BYTES)
        try:
            validate_password(password, user)
            user.set_password(password)
            user.full_clean()
            with transaction.atomic():
                user.save(force_insert=True)
                if options["role"]:
                    user.groups.add(group(SiteRole(options["role"])))
                rights = {
                    "is_active": user.is_active,
                    "is_staff": user.is_staff,
                    "is_superuser": user.is_superuser,
                    "role": options["role"],
                }
                who = audit.operator(options["reason"])
                audit.record(AuditAction.ADMIN_CREATED, f"user {user.username}", after=rights, who=who)
        except ValidationError as error:
            parts = error.message_dict if hasattr(error, "error_dict") else {"password": error.messages}
            told = "; ".join(f"{name}: {' '.join(words)}" for name, words in parts.items())
            raise CommandError(told) from None
        except IntegrityError:
            raise CommandError(f"{user.username} exists already") from None
        log.info("admin created", name=user.username)
        shown = {} if given else {"password": password}
        if options["json"]:
            self.stdout.write(json.dumps({"name": user.username, **shown}))
            return
        self.stdout.write(f"{user.username} may log in at /admin/")
        if shown:
            self.stdout.write(f"password, shown only now: {password}")
