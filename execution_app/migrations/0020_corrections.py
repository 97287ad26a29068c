"""What the venue holds otherwise than the book, taken over once it is final; and trades that are not ours."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_correction() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM public.positions WHERE id = NEW.position_id AND mode = 'LIVE' AND state = 'open') THEN
        PERFORM public.vanta_say_no(format('position %s is not an open LIVE one', NEW.position_id));
    END IF;
    IF NEW.block_number <= (SELECT max(block_number) FROM public.position_corrections WHERE position_id = NEW.position_id) THEN
        PERFORM public.vanta_say_no(format('position %s: corrections follow one another', NEW.position_id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_correction BEFORE INSERT ON position_corrections FOR EACH ROW EXECUTE FUNCTION vanta_guard_correction();
CREATE TRIGGER keep_row BEFORE UPDATE OR DELETE ON position_corrections FOR EACH ROW EXECUTE FUNCTION vanta_refuse('what was corrected stays told');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON position_corrections FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('what was corrected stays told');
"""

BACKWARDS = """
DROP TRIGGER keep_whole ON position_corrections;
DROP TRIGGER keep_row ON position_corrections;
DROP TRIGGER guard_correction ON position_corrections;
DROP FUNCTION vanta_guard_correction();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0019_delegations'),
    ]

    operations = [
        migrations.CreateModel(
            name='Correction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('block_number', models.BigIntegerField()),
                ('block_hash', models.CharField(max_length=66)),
                ('collateral_usdc', models.DecimalField(decimal_places=6, max_digits=24)),
                ('leverage_x', models.DecimalField(decimal_places=4, max_digits=12)),
                ('take_profit', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('stop_loss', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('venue_timestamp', models.DateTimeField()),
                ('differed', models.CharField(max_length=400)),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'db_table': 'position_corrections',
            },
        ),
        migrations.CreateModel(
            name='ExternalTrade',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('venue', models.CharField(max_length=42)),
                ('symbol', models.CharField(max_length=32)),
                ('pair_index', models.PositiveIntegerField()),
                ('trade_index', models.PositiveIntegerField()),
                ('is_long', models.BooleanField()),
                ('collateral_usdc', models.DecimalField(decimal_places=6, max_digits=24)),
                ('leverage_x', models.DecimalField(decimal_places=4, max_digits=12)),
                ('open_price', models.DecimalField(decimal_places=10, max_digits=30)),
                ('venue_timestamp', models.DateTimeField()),
                ('seen_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('gone_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'external_trades',
            },
        ),
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.AddField(
            model_name='position',
            name='differs_as',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AddField(
            model_name='position',
            name='differs_at_block',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='position',
            name='differs_at_hash',
            field=models.CharField(blank=True, db_default='', default='', max_length=66),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set'), ('position_corrected', 'position_corrected')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'position_corrected', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddField(
            model_name='correction',
            name='position',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='corrections', to='execution_app.position'),
        ),
        migrations.AddField(
            model_name='externaltrade',
            name='trader',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='external_trades', to='execution_app.trader'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.UniqueConstraint(fields=('position', 'block_number'), name='uq_position_corrections'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.CheckConstraint(condition=models.Q(('collateral_usdc__gt', 0), ('collateral_usdc__lt', 1000000000000000000)), name='ck_position_corrections_collateral'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.CheckConstraint(condition=models.Q(('leverage_x__gt', 0), ('leverage_x__lt', 1000000)), name='ck_position_corrections_leverage'),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.CheckConstraint(condition=models.Q(('differed', ''), _negated=True), name='ck_position_corrections_differed'),
        ),
        migrations.AddConstraint(
            model_name='externaltrade',
            constraint=models.UniqueConstraint(condition=models.Q(('gone_at__isnull', True)), fields=('trader', 'venue', 'pair_index', 'trade_index'), name='uq_external_trades_slot'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
