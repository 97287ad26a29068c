"""The audit log, and the triggers that chain it: nobody can insert a wrong link, change one or remove one."""

from django.db import migrations, models

# Keep the serialisation equal to ops/audit/verifier.py, which knows nothing of this function.
FORWARDS = r"""
CREATE FUNCTION vanta_audit_field(name text, value text) RETURNS text LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT name || CASE WHEN value IS NULL THEN '=-'
        ELSE '=' || octet_length(convert_to(value, 'UTF8')) || ':' || value END || E'\n'
$$;

CREATE FUNCTION vanta_chain_audit() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last record;
    names text[] := ARRAY['seq', 'at', 'actor', 'origin', 'address', 'action', 'subject', 'reason', 'before', 'after'];
    given text[];
    field text;
    fields text := '';
    digests text := '';
BEGIN
    -- One entry at a time, until the transaction ends: the last lock that a transaction takes (docs/adr/0012).
    PERFORM pg_advisory_xact_lock(1635083380);
    SELECT a.seq, a.hash INTO last FROM public.audit_log a ORDER BY a.seq DESC LIMIT 1;
    NEW.seq := coalesce(last.seq, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.prev_hash := coalesce(last.hash, repeat('0', 64));
    given := ARRAY[NEW.seq::text, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), NEW.actor::text,
        NEW.origin::text, NEW.address::text, NEW.action::text, NEW.subject::text, NEW.reason::text,
        NEW.before::text, NEW.after::text];
    FOR i IN 1 .. array_length(names, 1) LOOP
        field := public.vanta_audit_field(names[i], given[i]);
        fields := fields || field;
        digests := digests || ' ' || names[i] || ':' || substr(encode(sha256(convert_to(field, 'UTF8')), 'hex'), 1, 16);
    END LOOP;
    NEW.digests := substr(digests, 2);
    NEW.hash := encode(sha256(convert_to(E'vanta audit 1\n' || fields || public.vanta_audit_field('digests', NEW.digests)
        || public.vanta_audit_field('prev_hash', NEW.prev_hash), 'UTF8')), 'hex');
    RETURN NEW;
END $$;

CREATE TRIGGER chain_audit BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION vanta_chain_audit();
CREATE TRIGGER keep_audit BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION vanta_refuse('the audit log is append-only');
CREATE TRIGGER keep_audit_whole BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('the audit log is append-only');
"""

BACKWARDS = """
DROP TRIGGER keep_audit_whole ON audit_log;
DROP TRIGGER keep_audit ON audit_log;
DROP TRIGGER chain_audit ON audit_log;
DROP FUNCTION vanta_chain_audit();
DROP FUNCTION vanta_audit_field(text, text);
"""


class Migration(migrations.Migration):

    dependencies = [
        ("execution_app", "0010_caps_guards"),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('seq', models.BigIntegerField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('actor', models.CharField(max_length=150)),
                ('origin', models.CharField(choices=[('http', 'http'), ('admin', 'admin'), ('command', 'command'), ('redis', 'redis'), ('telegram', 'telegram'), ('automatic', 'automatic')], max_length=32)),
                ('address', models.CharField(max_length=150)),
                ('action', models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied')], max_length=32)),
                ('subject', models.CharField(max_length=200)),
                ('reason', models.CharField(blank=True, max_length=400)),
                ('before', models.JSONField(blank=True, null=True)),
                ('after', models.JSONField(blank=True, null=True)),
                ('digests', models.TextField()),
                ('prev_hash', models.CharField(max_length=64)),
                ('hash', models.CharField(max_length=64)),
            ],
            options={
                'db_table': 'audit_log',
                'indexes': [models.Index(condition=models.Q(('action', 'login_failed')), fields=['at'], name='ix_audit_log_failed_logins')],
                'constraints': [models.CheckConstraint(condition=models.Q(('seq__gte', 1)), name='ck_audit_log_seq'), models.CheckConstraint(condition=models.Q(('origin__in', ['admin', 'automatic', 'command', 'http', 'redis', 'telegram'])), name='ck_audit_log_origin'), models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action')],
            },
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
