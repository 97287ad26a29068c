"""Which moment a restored database is a copy of, and what a person has let through since, once each."""

import django.db.models.functions.datetime
from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_restore_point() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.untimed_accepted_at IS NOT NULL OR NEW.reconciled_at IS NOT NULL THEN
            PERFORM public.vanta_say_no('a restore begins with nothing accepted');
        END IF;
        RETURN NEW;
    END IF;
    IF to_jsonb(NEW) - ARRAY['untimed_accepted_at', 'untimed_accepted_by', 'reconciled_at']
        IS DISTINCT FROM to_jsonb(OLD) - ARRAY['untimed_accepted_at', 'untimed_accepted_by', 'reconciled_at'] THEN
        PERFORM public.vanta_say_no(format('restore point %s: what was restored never changes', OLD.id));
    END IF;
    IF (OLD.untimed_accepted_at IS NOT NULL AND (NEW.untimed_accepted_at, NEW.untimed_accepted_by)
            IS DISTINCT FROM (OLD.untimed_accepted_at, OLD.untimed_accepted_by))
        OR (OLD.reconciled_at IS NOT NULL AND NEW.reconciled_at IS DISTINCT FROM OLD.reconciled_at) THEN
        PERFORM public.vanta_say_no(format('restore point %s: what was accepted stays so', OLD.id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_restore_point BEFORE INSERT OR UPDATE ON restore_points FOR EACH ROW EXECUTE FUNCTION vanta_guard_restore_point();
CREATE TRIGGER keep_row BEFORE DELETE ON restore_points FOR EACH ROW EXECUTE FUNCTION vanta_refuse('its rows are kept');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON restore_points FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('its rows are kept');
"""
BACKWARDS = """
DROP TRIGGER keep_whole ON restore_points;
DROP TRIGGER keep_row ON restore_points;
DROP TRIGGER guard_restore_point ON restore_points;
DROP FUNCTION vanta_guard_restore_point();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0020_corrections'),
    ]

    operations = [
        migrations.CreateModel(
            name='RestorePoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('snapshot_at', models.DateTimeField()),
                ('restored_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('backup_sha256', models.CharField(max_length=64)),
                ('former', models.CharField(blank=True, default='', max_length=63)),
                ('epoch', models.BigIntegerField()),
                ('restored_by', models.CharField(max_length=150)),
                ('reason', models.CharField(max_length=400)),
                ('untimed_accepted_at', models.DateTimeField(blank=True, null=True)),
                ('untimed_accepted_by', models.CharField(blank=True, db_default='', default='', max_length=150)),
                ('reconciled_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'restore_points',
            },
        ),
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set'), ('position_corrected', 'position_corrected'), ('database_backed_up', 'database_backed_up'), ('database_restored', 'database_restored'), ('untimed_accepted', 'untimed_accepted')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'database_backed_up', 'database_restored', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'position_corrected', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'untimed_accepted', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddConstraint(
            model_name='restorepoint',
            constraint=models.CheckConstraint(condition=models.Q(('restored_at__gte', models.F('snapshot_at'))), name='ck_restore_points_order'),
        ),
        migrations.AddConstraint(
            model_name='restorepoint',
            constraint=models.CheckConstraint(condition=models.Q(('backup_sha256__regex', '^[0-9a-f]{64}$')), name='ck_restore_points_sha256'),
        ),
        migrations.AddConstraint(
            model_name='restorepoint',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('reason', ''), _negated=True), models.Q(('restored_by', ''), _negated=True)), name='ck_restore_points_reason'),
        ),
        migrations.AddConstraint(
            model_name='restorepoint',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('untimed_accepted_at__isnull', True), ('untimed_accepted_by', '')), models.Q(('untimed_accepted_at__gte', models.F('restored_at')), ('untimed_accepted_at__isnull', False), models.Q(('untimed_accepted_by', ''), _negated=True)), _connector='OR'), name='ck_restore_points_untimed'),
        ),
        migrations.AddConstraint(
            model_name='restorepoint',
            constraint=models.CheckConstraint(condition=models.Q(('reconciled_at__isnull', True), ('reconciled_at__gte', models.F('restored_at')), _connector='OR'), name='ck_restore_points_reconciled'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
