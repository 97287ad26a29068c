"""What the audit log tells, and from where: words, and nothing else."""

from enum import StrEnum


class AuditOrigin(StrEnum):
    """By which way an operator, or the machine itself, did something that the audit log keeps."""

    HTTP = "http"
    ADMIN = "admin"
    COMMAND = "command"
    REDIS = "redis"
    TELEGRAM = "telegram"
    AUTOMATIC = "automatic"


class AuditAction(StrEnum):
    """What the audit log keeps; the database holds the same list, so a new word needs a migration."""

    RESTRICTION_IMPOSED = "restriction_imposed"
    RESTRICTION_LIFTED = "restriction_lifted"
    CAP_SET = "cap_set"
    CAP_REMOVED = "cap_removed"
    PENDING_CANCELLED = "pending_cancelled"
    SPEED_UP_ASKED = "speed_up_asked"
    ORDER_CHANGED = "order_changed"
    MARGIN_ASKED = "margin_asked"
    FLATTEN_BEGUN = "flatten_begun"
    FLATTEN_ENDED = "flatten_ended"
    INTENT_DECIDED = "intent_decided"
    CHAIN_ADOPTED = "chain_adopted"
    CHAIN_HALTED = "chain_halted"
    CHAIN_RESUMED = "chain_resumed"
    WALLET_CREATED = "wallet_created"
    WALLET_HALTED = "wallet_halted"
    WALLET_RESUMED = "wallet_resumed"
    WALLET_ADOPTED = "wallet_adopted"
    WALLET_CHANGED = "wallet_changed"
    TRADER_ADDED = "trader_added"
    TRADER_ENABLED = "trader_enabled"
    TRADER_DISABLED = "trader_disabled"
    SOURCE_SECRET_ISSUED = "source_secret_issued"  # noqa: S105  (a word, not a secret)
    SOURCE_SECRET_RETIRED = "source_secret_retired"  # noqa: S105
    SOURCE_LIMITED = "source_limited"
    SOURCE_GRANTED = "source_granted"
    SOURCE_REVOKED = "source_revoked"
    TOKEN_ISSUED = "token_issued"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    ADMIN_CREATED = "admin_created"
    ADMIN_CHANGED = "admin_changed"
    ADMIN_DISABLED = "admin_disabled"
    ADMIN_DELETED = "admin_deleted"
    GROUP_CHANGED = "group_changed"
    GROUP_DELETED = "group_deleted"
    SECOND_FACTOR_SET = "second_factor_set"
    SECOND_FACTOR_REFUSED = "second_factor_refused"
    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"
    ROLES_APPLIED = "roles_applied"
    PROTECTION_SET = "protection_set"
    POSITION_CORRECTED = "position_corrected"
    DATABASE_BACKED_UP = "database_backed_up"
    DATABASE_RESTORED = "database_restored"
    ROWS_ARCHIVED = "rows_archived"
    UNTIMED_ACCEPTED = "untimed_accepted"
    TELEGRAM_ALLOWED = "telegram_allowed"
    TELEGRAM_REVOKED = "telegram_revoked"
    TELEGRAM_BOUND = "telegram_bound"
    TELEGRAM_UNBOUND = "telegram_unbound"
    TELEGRAM_CLOSED = "telegram_closed"
    PERSON_EXPORTED = "person_exported"
    PERSON_PSEUDONYMISED = "person_pseudonymised"
