"""Who may do what to which table: one table, from which `manage.py roles` makes the SQL and checks the server.

`web` is the webhook with its admin site, `worker` the workers and beat, `bot` the Telegram bot,
`readonly` people. Operators' commands and migrations run as the tables' owner.
What no line permits is refused, and a table without a line is a mistake.
"""

from dataclasses import dataclass, field

WEB, WORKER, BOT, READONLY = "vanta_web", "vanta_worker", "vanta_bot", "vanta_readonly"
ROLES = {
    WEB: "the webhook and its admin site",
    WORKER: "workers and beat",
    BOT: "the Telegram bot",
    READONLY: "people who look",
}

ALL: tuple[str, ...] = ()  # every column


@dataclass(frozen=True)
class Rights:
    """What one role may do to one table; a tuple names columns, an empty one means all of them, None nothing."""

    select: tuple[str, ...] | None = ALL
    insert: tuple[str, ...] | None = None
    update: tuple[str, ...] | None = None
    delete: bool = False

    def wanted(self) -> "set[tuple[str, str]]":
        """(privilege, column); the column is blank where the whole table is meant."""
        found: set[tuple[str, str]] = {("DELETE", "")} if self.delete else set()
        for privilege, columns in (("SELECT", self.select), ("INSERT", self.insert), ("UPDATE", self.update)):
            if columns is not None:
                found |= {(privilege, column) for column in columns} or {(privilege, "")}
        return found


@dataclass(frozen=True)
class Line:
    """The rights of the four roles to one table; everybody who has no word of their own may read."""

    web: Rights = field(default_factory=Rights)
    worker: Rights = field(default_factory=Rights)
    bot: Rights = field(default_factory=Rights)
    readonly: Rights = field(default_factory=Rights)

    def of(self, role: str) -> Rights:
        return {WEB: self.web, WORKER: self.worker, BOT: self.bot, READONLY: self.readonly}[role]


NOTHING = Rights(select=None)
OWN = Rights(insert=ALL, update=ALL, delete=True)
APPEND = Rights(insert=ALL)
# Where somebody logs in: what a person or a worker needs not, they do not read either.
LOGINS = Line(web=OWN, worker=NOTHING, bot=NOTHING, readonly=NOTHING)
SCHEDULE = Line(worker=OWN)
READ = Line()

_ENTRY = ("actor", "origin", "address", "action", "subject", "reason", "before", "after")
_AUDITS = Rights(insert=_ENTRY)
# Locking a row FOR UPDATE or FOR SHARE asks for the right to change one of its columns.
_GATE = Rights(update=("epoch", "updated_at"))
_RESTRICTS = Rights(insert=ALL, update=("lifted_by", "lifted_at"))
_BEATS = Rights(insert=ALL, update=("process", "pid", "started_at", "at", "note"))
_CHANGES = Rights(insert=ALL, update=ALL)
_SIGNAL_CONTENT = (
    *("source", "signal_id", "tg_user_id", "symbol", "side", "collateral_usdc", "leverage_x", "slippage_pct"),
    *(
        "reduce_usdc",
        "reduce_pct",
        "take_profit",
        "stop_loss",
        "trailing_stop_pct",
        "break_even_pct",
        "time_stop_s",
        "order_type",
        "limit_price",
        "changes",
        "deposit_usdc",
        "withdraw_usdc",
        "max_lag_s",
        "ts",
    ),
    *("meta", "body_sha256", "webhook_id", "secret_id", "decision", "reasons"),
)
_INTENT_PROGRESS = (
    *(
        "wallet_id",
        "position_id",
        "holds_position",
        "reduce_usdc",
        "state",
        "reason",
        "reason_detail",
        "mode",
        "road",
    ),
    *("attempts", "next_try_at", "settled_at", "updated_at", "nonce", "to_address", "calldata", "value_wei"),
    *("gas_limit", "l1_fee_wei", "wanted_price", "close_usdc", "keeper_due_at"),
    "cancel_asked_at",  # of a close whose slot another trade has taken
)
_OFFERS = ("leased_at", "offered_at", "last_offered_at", "offers", "held_at", "stuck_at", "outcome")
_POSTS = (
    *(
        "leased_at",
        "posted_at",
        "last_posted_at",
        "posts",
        "held_at",
        "outcome",
        "tracking_id",
        "last_seq",
        "said",
    ),
    *("asked_at", "unused_at_block", "unused_at_hash", "spent_at_block", "spent_at_hash"),
    *("signature", "sign_leased_at", "sign_lease", "sign_tries", "sign_after"),
)
# What /approve and /reject write; the road of an order is the workers'.
_INTENT_DECISION = (
    *("state", "reason", "reason_detail", "settled_at", "next_try_at", "updated_at", "holds_position"),
    *("approved_at", "approved_by"),
)
_CODE_USED = ("drift", "last_t", "last_used_at", "throttling_failure_count", "throttling_failure_timestamp")
_USER_SHOWN = ("id", "last_login", "is_superuser", "username", "is_staff", "is_active", "date_joined")

TABLES: dict[str, Line] = {
    # The letter box
    "signals": Line(
        web=Rights(insert=_SIGNAL_CONTENT), worker=Rights(update=("decided_at", "decision", "reasons"))
    ),
    "api_tokens": Line(
        web=Rights(update=("last_used_at",)),
        worker=NOTHING,
        bot=NOTHING,
        readonly=Rights(
            select=("id", "name", "scope", "created_at", "expires_at", "revoked_at", "last_used_at")
        ),
    ),
    "sources": READ,
    "source_grants": READ,
    "source_secrets": Line(
        worker=NOTHING,
        bot=NOTHING,
        readonly=Rights(select=("id", "source", "active", "created_at", "retired_at")),
    ),
    "source_buckets": Line(
        web=Rights(insert=("source", "kind", "tokens", "refilled_at"), update=("tokens", "refilled_at"))
    ),
    # The road to the chain
    "tx_intents": Line(
        worker=Rights(insert=ALL, update=_INTENT_PROGRESS), bot=Rights(insert=ALL, update=_INTENT_DECISION)
    ),
    "intent_transitions": Line(worker=APPEND, bot=APPEND),
    "intent_moves": READ,
    "tx_sends": Line(worker=Rights(insert=ALL, update=_OFFERS)),
    "sign_requests": Line(worker=OWN),
    "venue_messages": Line(worker=Rights(insert=ALL, update=_POSTS)),
    "tx_receipts": Line(worker=Rights(insert=ALL, update=ALL)),
    "wallets": Line(
        worker=Rights(
            update=(
                *("next_nonce", "seen_next_nonce", "halted_reason", "halted_at", "balance_wei"),
                "delegated_until",
            )
        ),
        # To lock a row, as whoever decides about an order does; it is read from the chain all the time.
        bot=Rights(update=("balance_wei",)),
    ),
    # /bind makes a trader and /unbind disables one; `trader enable` is a command of the owner.
    "traders": Line(bot=Rights(insert=ALL, update=("enabled",))),
    # What we hold
    "venue_orders": Line(worker=OWN),
    "positions": Line(worker=Rights(insert=ALL, update=ALL), bot=Rights(update=("updated_at",))),
    "position_corrections": Line(worker=APPEND),
    "margin_changes": Line(worker=OWN),
    "external_trades": Line(worker=_CHANGES),
    "fills": Line(worker=OWN),
    "shadow_fills": Line(worker=Rights(insert=ALL, update=("price_gap_pct", "fee_gap_usdc", "delay_ms"))),
    "protections": Line(
        worker=Rights(insert=ALL, update=("ended_at", "watermark", "native_crossed_at")),
        bot=Rights(insert=ALL, update=("ended_at",)),
    ),
    "protection_triggers": Line(worker=APPEND),
    "prices": Line(worker=_CHANGES),
    "feed_prices": Line(worker=_CHANGES),
    "market_states": Line(worker=_CHANGES),
    "price_ticks": Line(worker=APPEND),
    # The gate
    "chains": Line(worker=Rights(insert=ALL, update=ALL)),
    "control": Line(web=_GATE, worker=_GATE, bot=_GATE),
    "mode_changes": Line(web=_RESTRICTS, worker=_RESTRICTS, bot=_RESTRICTS),
    "caps": READ,
    # Written by the command that restores, as the tables' owner.
    "restore_points": READ,
    # Written by the command that archives, as the tables' owner.
    "archives": READ,
    # The bot locks the place of an open that is rejected; what is held has none yet.
    "risk_reservations": Line(worker=_CHANGES, bot=Rights(update=("reserved_at",))),
    # Written by a trigger, with the rights of whoever changed a reservation.
    "risk_log": Line(worker=APPEND),
    "stack_mode": Line(web=_CHANGES, worker=_CHANGES),
    "mode_history": Line(web=APPEND, worker=APPEND),
    "heartbeats": Line(web=_BEATS, worker=_BEATS, bot=_BEATS),
    "pool_beats": Line(worker=OWN),
    "audit_log": Line(web=_AUDITS, worker=_AUDITS, bot=_AUDITS),
    # Who is told of in the audit log is told by a number that whoever writes may draw; who they are is not for all
    "people": Line(web=APPEND, worker=APPEND, bot=APPEND, readonly=NOTHING),
    # The bot; who may use it is said by a command of the owner
    "telegram_users": Line(worker=NOTHING),
    "telegram_updates": Line(web=NOTHING, worker=NOTHING, bot=OWN, readonly=NOTHING),
    "telegram_confirmations": Line(web=NOTHING, worker=NOTHING, bot=OWN, readonly=NOTHING),
    "telegram_bindings": Line(web=NOTHING, worker=NOTHING, bot=OWN, readonly=NOTHING),
    # The page of /bind takes an answer down, and judges nothing
    "telegram_pages": Line(
        web=Rights(update=("address", "signature", "answered_at")), worker=NOTHING, bot=OWN, readonly=NOTHING
    ),
    "telegram_flows": Line(web=NOTHING, worker=NOTHING, bot=OWN, readonly=NOTHING),
    "telegram_chats": Line(web=NOTHING, worker=NOTHING, bot=OWN),
    "telegram_levels": Line(web=NOTHING, worker=NOTHING, bot=OWN),
    "telegram_conditions": Line(web=NOTHING, worker=NOTHING, bot=OWN),
    # How many wait and were delivered is told at the scrape, which the webhook answers
    "telegram_tallies": Line(worker=NOTHING, bot=OWN),
    "telegram_notices": Line(web=Rights(select=("due_at",)), worker=NOTHING, bot=OWN),
    # Django's own
    "auth_user": Line(
        web=OWN,
        worker=NOTHING,
        bot=Rights(select=("id", "username", "is_active")),
        readonly=Rights(select=_USER_SHOWN),
    ),
    "auth_group": LOGINS,
    "auth_group_permissions": LOGINS,
    "auth_user_groups": LOGINS,
    "auth_user_user_permissions": LOGINS,
    "auth_permission": Line(worker=NOTHING, bot=NOTHING, readonly=NOTHING),
    # Whoever checks codes has to know the keys; the bot can change none.
    "otp_totp_totpdevice": Line(web=OWN, worker=NOTHING, bot=Rights(update=_CODE_USED), readonly=NOTHING),
    # Whoever has one is asked for a second factor by the bot, too, which can use none.
    "passkeys": Line(web=OWN, worker=NOTHING, bot=Rights(select=("id", "user_id")), readonly=NOTHING),
    "axes_accessattempt": LOGINS,
    "axes_accessattemptexpiration": LOGINS,
    "axes_accessfailurelog": LOGINS,
    "axes_accesslog": LOGINS,
    "django_session": LOGINS,
    "django_admin_log": Line(web=APPEND, worker=NOTHING, bot=NOTHING),
    "django_content_type": READ,
    "django_migrations": READ,
    "django_celery_beat_clockedschedule": SCHEDULE,
    "django_celery_beat_crontabschedule": SCHEDULE,
    "django_celery_beat_intervalschedule": SCHEDULE,
    "django_celery_beat_periodictask": SCHEDULE,
    "django_celery_beat_periodictasks": SCHEDULE,
    "django_celery_beat_solarschedule": SCHEDULE,
}
