"""What has been archived may leave: history of what ended over a month ago, and nothing else.

The guards that forbade any DELETE ask for the row's archive instead. They are only loosened, so a version that knows no
archives works on: it deletes none of these rows.
"""

import django.db.models.expressions
import django.db.models.functions.datetime
from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_archive() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM public.vanta_say_no(format('archive %s: what was archived stays told', OLD.file));
    END IF;
    IF NEW.day > (now() AT TIME ZONE 'UTC')::date - 35 THEN
        PERFORM public.vanta_say_no(format('archive %s: %s is younger than 35 days', NEW.file, NEW.day));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_is_archived(place text, ended timestamptz, row_id bigint) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM public.archives
        WHERE table_name = place AND day = (ended AT TIME ZONE 'UTC')::date AND row_id BETWEEN first_id AND last_id
    )
$$;

CREATE FUNCTION vanta_keep_until_archived() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    ended timestamptz;
BEGIN
    IF TG_TABLE_NAME = 'risk_log' THEN
        SELECT released_at INTO ended FROM public.risk_reservations WHERE id = OLD.reservation_id;
    ELSE
        SELECT settled_at INTO ended FROM public.tx_intents WHERE id = OLD.intent_id;
    END IF;
    IF NOT public.vanta_is_archived(TG_TABLE_NAME, ended, OLD.id) THEN
        RAISE EXCEPTION 'DELETE on % is refused: %, until it is archived', TG_TABLE_NAME, TG_ARGV[0]
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER guard_archive BEFORE INSERT OR UPDATE OR DELETE ON archives FOR EACH ROW EXECUTE FUNCTION vanta_guard_archive();
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON archives FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('its rows are kept');

DROP TRIGGER keep_transition ON intent_transitions;
CREATE TRIGGER keep_transition BEFORE UPDATE ON intent_transitions FOR EACH ROW EXECUTE FUNCTION vanta_refuse('history is append-only');
CREATE TRIGGER keep_until_archived BEFORE DELETE ON intent_transitions FOR EACH ROW EXECUTE FUNCTION vanta_keep_until_archived('history is append-only');
DROP TRIGGER keep_risk_log ON risk_log;
CREATE TRIGGER keep_risk_log BEFORE UPDATE ON risk_log FOR EACH ROW EXECUTE FUNCTION vanta_refuse('the log is append-only');
CREATE TRIGGER keep_until_archived BEFORE DELETE ON risk_log FOR EACH ROW EXECUTE FUNCTION vanta_keep_until_archived('the log is append-only');
DROP TRIGGER keep_row ON shadow_fills;
CREATE TRIGGER keep_until_archived BEFORE DELETE ON shadow_fills FOR EACH ROW EXECUTE FUNCTION vanta_keep_until_archived('estimates are kept');
"""

BACKWARDS = """
DROP TRIGGER keep_until_archived ON shadow_fills;
CREATE TRIGGER keep_row BEFORE DELETE ON shadow_fills FOR EACH ROW EXECUTE FUNCTION vanta_refuse('estimates are kept');
DROP TRIGGER keep_until_archived ON risk_log;
DROP TRIGGER keep_risk_log ON risk_log;
CREATE TRIGGER keep_risk_log BEFORE UPDATE OR DELETE ON risk_log FOR EACH ROW EXECUTE FUNCTION vanta_refuse('the log is append-only');
DROP TRIGGER keep_until_archived ON intent_transitions;
DROP TRIGGER keep_transition ON intent_transitions;
CREATE TRIGGER keep_transition BEFORE UPDATE OR DELETE ON intent_transitions FOR EACH ROW EXECUTE FUNCTION vanta_refuse('history is append-only');
DROP TRIGGER keep_whole ON archives;
DROP TRIGGER guard_archive ON archives;
DROP FUNCTION vanta_keep_until_archived();
DROP FUNCTION vanta_is_archived(text, timestamptz, bigint);
DROP FUNCTION vanta_guard_archive();
"""

class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0027_new_levels'),
    ]

    operations = [
        migrations.CreateModel(
            name='Archive',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('table_name', models.CharField(choices=[('intent_transitions', 'intent_transitions'), ('risk_log', 'risk_log'), ('shadow_fills', 'shadow_fills'), ('signals', 'signals'), ('django_admin_log', 'django_admin_log')], max_length=32)),
                ('day', models.DateField()),
                ('part', models.PositiveSmallIntegerField(default=1)),
                ('file', models.CharField(max_length=120)),
                ('sha256', models.CharField(max_length=64)),
                ('rows', models.PositiveBigIntegerField()),
                ('first_id', models.BigIntegerField()),
                ('last_id', models.BigIntegerField()),
                ('made_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'db_table': 'archives',
            },
        ),
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set'), ('position_corrected', 'position_corrected'), ('database_backed_up', 'database_backed_up'), ('database_restored', 'database_restored'), ('rows_archived', 'rows_archived'), ('untimed_accepted', 'untimed_accepted'), ('telegram_allowed', 'telegram_allowed'), ('telegram_revoked', 'telegram_revoked'), ('telegram_bound', 'telegram_bound'), ('telegram_unbound', 'telegram_unbound'), ('telegram_closed', 'telegram_closed')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'database_backed_up', 'database_restored', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'position_corrected', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'rows_archived', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'telegram_allowed', 'telegram_bound', 'telegram_closed', 'telegram_revoked', 'telegram_unbound', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'untimed_accepted', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddConstraint(
            model_name='archive',
            constraint=models.UniqueConstraint(fields=('table_name', 'day', 'part'), name='uq_archives_part'),
        ),
        migrations.AddConstraint(
            model_name='archive',
            constraint=models.CheckConstraint(condition=models.Q(('table_name__in', ['django_admin_log', 'intent_transitions', 'risk_log', 'shadow_fills', 'signals'])), name='ck_archives_table_name'),
        ),
        migrations.AddConstraint(
            model_name='archive',
            constraint=models.CheckConstraint(condition=models.Q(('sha256__regex', '^[0-9a-f]{64}$')), name='ck_archives_sha256'),
        ),
        migrations.AddConstraint(
            model_name='archive',
            constraint=models.CheckConstraint(condition=models.Q(('part__gte', 1), ('rows__gte', 1), ('rows__lte', django.db.models.expressions.CombinedExpression(django.db.models.expressions.CombinedExpression(models.F('last_id'), '-', models.F('first_id')), '+', models.Value(1)))), name='ck_archives_rows'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
