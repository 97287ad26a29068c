"""What guards a position: versions of its levels, and what fired, once each."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_protection() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.is_long IS DISTINCT FROM (SELECT is_long FROM public.positions WHERE id = NEW.position_id) THEN
            PERFORM public.vanta_say_no(format('position %s is on the other side', NEW.position_id));
        END IF;
        IF NEW.version <> 1 + (SELECT coalesce(max(version), 0) FROM public.protections WHERE position_id = NEW.position_id) THEN
            PERFORM public.vanta_say_no(format('position %s: versions follow one another', NEW.position_id));
        END IF;
        IF NEW.ended_at IS NOT NULL THEN
            PERFORM public.vanta_say_no('a version begins before it ends');
        END IF;
        RETURN NEW;
    END IF;
    IF to_jsonb(NEW) - ARRAY['ended_at', 'watermark', 'native_crossed_at']
        IS DISTINCT FROM to_jsonb(OLD) - ARRAY['ended_at', 'watermark', 'native_crossed_at'] THEN
        PERFORM public.vanta_say_no(format('protection %s: what was set never changes, a newer version does', OLD.id));
    END IF;
    IF OLD.ended_at IS NOT NULL AND NEW IS DISTINCT FROM OLD THEN
        PERFORM public.vanta_say_no(format('protection %s has ended', OLD.id));
    END IF;
    IF OLD.watermark IS NOT NULL AND (NEW.watermark IS NULL
        OR (OLD.is_long AND NEW.watermark < OLD.watermark) OR (NOT OLD.is_long AND NEW.watermark > OLD.watermark)) THEN
        PERFORM public.vanta_say_no(format('protection %s: the best price never gets worse', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_trigger() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM public.protections AS guard JOIN public.tx_intents AS asked ON asked.position_id = guard.position_id
            WHERE guard.id = NEW.protection_id AND guard.ended_at IS NULL
            AND asked.id = NEW.intent_id AND asked.action = 'close' AND asked.only_position) THEN
        PERFORM public.vanta_say_no(format('protection %s fires once, while it counts, by a close of its very position', NEW.protection_id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_only_position() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.only_position <> OLD.only_position OR (OLD.only_position AND NEW.position_id IS DISTINCT FROM OLD.position_id) THEN
        PERFORM public.vanta_say_no(format('intent %s keeps to the position that it was asked for', OLD.id));
    END IF;
    IF (NEW.trailing_stop_pct, NEW.break_even_pct, NEW.time_stop_s)
        IS DISTINCT FROM (OLD.trailing_stop_pct, OLD.break_even_pct, OLD.time_stop_s) THEN
        PERFORM public.vanta_say_no(format('intent %s: what was asked for never changes', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_protection BEFORE INSERT OR UPDATE ON protections FOR EACH ROW EXECUTE FUNCTION vanta_guard_protection();
CREATE TRIGGER keep_row BEFORE DELETE ON protections FOR EACH ROW EXECUTE FUNCTION vanta_refuse('its rows are kept');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON protections FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('its rows are kept');
CREATE TRIGGER guard_trigger BEFORE INSERT ON protection_triggers FOR EACH ROW EXECUTE FUNCTION vanta_guard_trigger();
CREATE TRIGGER keep_row BEFORE UPDATE OR DELETE ON protection_triggers FOR EACH ROW EXECUTE FUNCTION vanta_refuse('what fired stays told');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON protection_triggers FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('what fired stays told');
CREATE TRIGGER guard_only_position BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_only_position();
"""

BACKWARDS = """
DROP TRIGGER guard_only_position ON tx_intents;
DROP TRIGGER keep_whole ON protection_triggers;
DROP TRIGGER keep_row ON protection_triggers;
DROP TRIGGER guard_trigger ON protection_triggers;
DROP TRIGGER keep_whole ON protections;
DROP TRIGGER keep_row ON protections;
DROP TRIGGER guard_protection ON protections;
DROP FUNCTION vanta_guard_only_position();
DROP FUNCTION vanta_guard_trigger();
DROP FUNCTION vanta_guard_protection();
"""

# Levels of positions that are open already are watched from now on, too.
OF_BEFORE = """
INSERT INTO protections (position_id, version, is_long, take_profit, stop_loss, set_by, reason)
SELECT id, 1, is_long, take_profit, stop_loss, 'migration', 'with the open' FROM positions
WHERE state = 'open' AND coalesce(take_profit, stop_loss) IS NOT NULL
AND (take_profit IS NULL OR stop_loss IS NULL OR (is_long AND stop_loss < take_profit) OR (NOT is_long AND stop_loss > take_profit))
ORDER BY id;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0017_sign_requests'),
    ]

    operations = [
        migrations.CreateModel(
            name='Protection',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version', models.PositiveIntegerField()),
                ('is_long', models.BooleanField()),
                ('take_profit', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('stop_loss', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('trailing_stop_pct', models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True)),
                ('trailing_stop_usd', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('break_even_pct', models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True)),
                ('closes_at', models.DateTimeField(blank=True, null=True)),
                ('set_by', models.CharField(max_length=150)),
                ('reason', models.CharField(blank=True, db_default='', default='', max_length=400)),
                ('set_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('watermark', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('native_crossed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'protections',
            },
        ),
        migrations.CreateModel(
            name='ProtectionTrigger',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('stop_loss', 'stop_loss'), ('trailing_stop', 'trailing_stop'), ('break_even', 'break_even'), ('take_profit', 'take_profit'), ('time_stop', 'time_stop')], max_length=32)),
                ('level', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('price', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('detail', models.CharField(blank=True, db_default='', default='', max_length=200)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'db_table': 'protection_triggers',
            },
        ),
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.AddField(
            model_name='txintent',
            name='break_even_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='txintent',
            name='only_position',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='txintent',
            name='time_stop_s',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='txintent',
            name='trailing_stop_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('only_position', False), models.Q(('action', 'close'), ('position__isnull', False)), _connector='OR'), name='ck_tx_intents_only_position'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('trailing_stop_pct__isnull', True), models.Q(('trailing_stop_pct__gt', 0), ('trailing_stop_pct__lte', 100)), _connector='OR'), name='ck_tx_intents_trailing_stop_pct'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('break_even_pct__isnull', True), models.Q(('break_even_pct__gt', 0), ('break_even_pct__lte', 100)), _connector='OR'), name='ck_tx_intents_break_even_pct'),
        ),
        migrations.AddField(
            model_name='protection',
            name='position',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='protections', to='execution_app.position'),
        ),
        migrations.AddField(
            model_name='protectiontrigger',
            name='intent',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='protection_trigger', to='execution_app.txintent'),
        ),
        migrations.AddField(
            model_name='protectiontrigger',
            name='protection',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='trigger', to='execution_app.protection'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.UniqueConstraint(fields=('position', 'version'), name='uq_protections_version'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('position',), name='uq_protections_current'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('version__gte', 1)), name='ck_protections_version'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('take_profit__isnull', True), models.Q(('take_profit__gt', 0), ('take_profit__lt', 100000000000000000000)), _connector='OR'), name='ck_protections_take_profit'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('stop_loss__isnull', True), models.Q(('stop_loss__gt', 0), ('stop_loss__lt', 100000000000000000000)), _connector='OR'), name='ck_protections_stop_loss'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('trailing_stop_usd__isnull', True), models.Q(('trailing_stop_usd__gt', 0), ('trailing_stop_usd__lt', 100000000000000000000)), _connector='OR'), name='ck_protections_trailing_stop_usd'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('watermark__isnull', True), models.Q(('watermark__gt', 0), ('watermark__lt', 100000000000000000000)), _connector='OR'), name='ck_protections_watermark'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('trailing_stop_pct__isnull', True), models.Q(('trailing_stop_pct__gt', 0), ('trailing_stop_pct__lte', 100), ('trailing_stop_usd__isnull', True)), _connector='OR'), name='ck_protections_trailing_stop_pct'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('break_even_pct__isnull', True), models.Q(('break_even_pct__gt', 0), ('break_even_pct__lte', 100)), _connector='OR'), name='ck_protections_break_even_pct'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('take_profit__isnull', True), ('stop_loss__isnull', True), models.Q(('is_long', True), ('stop_loss__lt', models.F('take_profit'))), models.Q(('is_long', False), ('stop_loss__gt', models.F('take_profit'))), _connector='OR'), name='ck_protections_sides'),
        ),
        migrations.AddConstraint(
            model_name='protection',
            constraint=models.CheckConstraint(condition=models.Q(('set_by', ''), _negated=True), name='ck_protections_set_by'),
        ),
        migrations.AddConstraint(
            model_name='protectiontrigger',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['break_even', 'stop_loss', 'take_profit', 'time_stop', 'trailing_stop'])), name='ck_protection_triggers_kind'),
        ),
        migrations.AddConstraint(
            model_name='protectiontrigger',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'time_stop'), ('level__isnull', True)), models.Q(('level__gt', 0), ('level__isnull', False), ('level__lt', 100000000000000000000), ('price__isnull', False)), _connector='OR'), name='ck_protection_triggers_level'),
        ),
        migrations.AddConstraint(
            model_name='protectiontrigger',
            constraint=models.CheckConstraint(condition=models.Q(('price__isnull', True), models.Q(('price__gt', 0), ('price__lt', 100000000000000000000)), _connector='OR'), name='ck_protection_triggers_price'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
        migrations.RunSQL(OF_BEFORE, migrations.RunSQL.noop),
    ]
