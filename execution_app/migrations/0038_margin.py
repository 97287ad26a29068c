"""What goes into the margin of an open position, or out of it."""

from importlib import import_module

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

# As 0037 has it, with the column that is new here.
BEFORE = import_module("execution_app.migrations.0037_order_updates").FORWARDS
ASKED = BEFORE.replace("NEW.new_slippage_pct)", "NEW.new_slippage_pct, NEW.margin_usdc)").replace(
    "OLD.new_slippage_pct)", "OLD.new_slippage_pct, OLD.margin_usdc)"
)
# What was released for a position that turns out to be open is at stake again: margin that we put in, too.
PARTS = import_module("execution_app.migrations.0036_increases").ALL_PARTS
ALL_PARTS = PARTS.replace("held.state = 'open')", """held.state = 'open') AND NOT EXISTS (
            SELECT 1 FROM public.margin_changes AS margin JOIN public.positions AS held ON held.id = margin.position_id
            WHERE margin.intent_id = OLD.intent_id AND held.state = 'open')""")
FORWARDS = """
CREATE FUNCTION vanta_guard_margin() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (SELECT 1 FROM public.positions WHERE id = NEW.position_id
                AND (mode = 'LIVE') = (NEW.block_number IS NOT NULL)) THEN
            PERFORM public.vanta_say_no(format('margin of position %s is changed where it is, on the chain or in our own book', NEW.position_id));
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.settled_at IS NOT NULL THEN
        PERFORM public.vanta_say_no(format('change of margin %s is final', OLD.id));
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF to_jsonb(NEW) - ARRAY['settled_at', 'intent_id'] IS DISTINCT FROM to_jsonb(OLD) - ARRAY['settled_at', 'intent_id'] THEN
        PERFORM public.vanta_say_no(format('change of margin %s is as the venue told it', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_margin BEFORE INSERT OR UPDATE OR DELETE ON margin_changes FOR EACH ROW EXECUTE FUNCTION vanta_guard_margin();
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON margin_changes FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('what is final stays');

CREATE FUNCTION vanta_guard_margin_intent() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.position_id IS DISTINCT FROM OLD.position_id THEN
        PERFORM public.vanta_say_no(format('intent %s: what was asked for never changes', OLD.id));
    END IF;
    IF TG_OP = 'INSERT' AND NEW.position_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM public.positions AS held WHERE held.id = NEW.position_id AND held.trader_id = NEW.trader_id
            AND held.symbol = NEW.symbol) THEN
        PERFORM public.vanta_say_no(format('position %s is none of this trader on this symbol', NEW.position_id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_margin_intent BEFORE INSERT ON tx_intents FOR EACH ROW
    WHEN (NEW.action = 'margin') EXECUTE FUNCTION vanta_guard_margin_intent();
CREATE TRIGGER guard_margin_kept BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN (OLD.action = 'margin') EXECUTE FUNCTION vanta_guard_margin_intent();
"""
BACKWARDS = """
DROP TRIGGER guard_margin_kept ON tx_intents;
DROP TRIGGER guard_margin_intent ON tx_intents;
DROP FUNCTION vanta_guard_margin_intent();
DROP TRIGGER keep_whole ON margin_changes;
DROP TRIGGER guard_margin ON margin_changes;
DROP FUNCTION vanta_guard_margin();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0037_order_updates'),
    ]

    operations = [
        migrations.CreateModel(
            name='MarginChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('change_usdc', models.DecimalField(decimal_places=6, max_digits=24)),
                ('collateral_usdc', models.DecimalField(decimal_places=6, max_digits=24)),
                ('leverage_x', models.DecimalField(decimal_places=10, max_digits=20)),
                ('venue_timestamp', models.DateTimeField(blank=True, null=True)),
                ('tx_hash', models.CharField(max_length=66)),
                ('log_index', models.PositiveIntegerField()),
                ('block_number', models.BigIntegerField(blank=True, null=True)),
                ('block_hash', models.CharField(blank=True, max_length=66)),
                ('after_fill', models.BigIntegerField(blank=True, null=True)),
                ('seen_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('settled_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'margin_changes',
            },
        ),
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_only_position',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_changed_levels',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_action',
        ),
        migrations.AddField(
            model_name='txintent',
            name='margin_usdc',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=24, null=True),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('speed_up_asked', 'speed_up_asked'), ('order_changed', 'order_changed'), ('margin_asked', 'margin_asked'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set'), ('position_corrected', 'position_corrected'), ('database_backed_up', 'database_backed_up'), ('database_restored', 'database_restored'), ('rows_archived', 'rows_archived'), ('untimed_accepted', 'untimed_accepted'), ('telegram_allowed', 'telegram_allowed'), ('telegram_revoked', 'telegram_revoked'), ('telegram_bound', 'telegram_bound'), ('telegram_unbound', 'telegram_unbound'), ('telegram_closed', 'telegram_closed'), ('person_exported', 'person_exported'), ('person_pseudonymised', 'person_pseudonymised')], max_length=32),
        ),
        migrations.AlterField(
            model_name='fill',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order'), ('update_order', 'update_order'), ('increase', 'increase'), ('margin', 'margin')], max_length=32),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order'), ('update_order', 'update_order'), ('increase', 'increase'), ('margin', 'margin')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'database_backed_up', 'database_restored', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'margin_asked', 'order_changed', 'pending_cancelled', 'person_exported', 'person_pseudonymised', 'position_corrected', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'rows_archived', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'speed_up_asked', 'telegram_allowed', 'telegram_bound', 'telegram_closed', 'telegram_revoked', 'telegram_unbound', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'untimed_accepted', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('only_position', False), models.Q(('action__in', ['close', 'increase', 'margin']), ('position__isnull', False)), _connector='OR'), name='ck_tx_intents_only_position'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'changed'), _negated=True), ('action__in', ['levels', 'margin', 'cancel_order', 'update_order']), _connector='OR'), name='ck_tx_intents_changed_levels'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('action', 'margin'), _negated=True), ('margin_usdc__isnull', True)), models.Q(models.Q(('margin_usdc', 0), _negated=True), models.Q(('position__isnull', False), ('state', 'rejected'), _connector='OR'), ('action', 'margin'), ('margin_usdc__gt', -1000000000000000000), ('margin_usdc__isnull', False), ('margin_usdc__lt', 1000000000000000000), ('road__in', ['', 'onchain']), ('state__in', ['changed', 'expired', 'final_cancelled', 'final_reverted', 'held', 'lost_nonce', 'mined', 'no_op', 'pending', 'pending_inclusion', 'rejected', 'reserved', 'sending', 'signed', 'simulated'])), _connector='OR'), name='ck_tx_intents_margin'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['cancel_order', 'close', 'increase', 'levels', 'margin', 'open', 'update_order'])), name='ck_tx_intents_action'),
        ),
        migrations.AddField(
            model_name='marginchange',
            name='intent',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='margin_change', to='execution_app.txintent'),
        ),
        migrations.AddField(
            model_name='marginchange',
            name='position',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='margin_changes', to='execution_app.position'),
        ),
        migrations.AddIndex(
            model_name='marginchange',
            index=models.Index(condition=models.Q(('settled_at__isnull', True)), fields=['id'], name='ix_margin_changes_unsettled'),
        ),
        migrations.AddConstraint(
            model_name='marginchange',
            constraint=models.UniqueConstraint(fields=('tx_hash', 'log_index'), name='uq_margin_changes_event'),
        ),
        migrations.AddConstraint(
            model_name='marginchange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('change_usdc', 0), _negated=True), ('change_usdc__gt', -1000000000000000000), ('change_usdc__lt', 1000000000000000000)), name='ck_margin_changes_change'),
        ),
        migrations.AddConstraint(
            model_name='marginchange',
            constraint=models.CheckConstraint(condition=models.Q(('collateral_usdc__gt', 0), ('collateral_usdc__lt', 1000000000000000000)), name='ck_margin_changes_collateral'),
        ),
        migrations.AddConstraint(
            model_name='marginchange',
            constraint=models.CheckConstraint(condition=models.Q(('leverage_x__gt', 0), ('leverage_x__lt', 1000000)), name='ck_margin_changes_leverage'),
        ),
        migrations.AddConstraint(
            model_name='marginchange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('after_fill__isnull', True), ('block_number__isnull', False), ('venue_timestamp__isnull', False)), models.Q(('after_fill__isnull', False), ('block_number__isnull', True), ('intent__isnull', False), ('settled_at__isnull', False), ('venue_timestamp__isnull', True)), _connector='OR'), name='ck_margin_changes_place'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
        migrations.RunSQL(ASKED, BEFORE),
        migrations.RunSQL(ALL_PARTS, PARTS),
    ]
