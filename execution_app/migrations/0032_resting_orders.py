"""Opens that rest at the venue until their price comes, and what takes them back."""

import django.db.models.deletion
from django.db import migrations, models


FORWARDS = """
CREATE FUNCTION vanta_guard_resting() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.order_type, NEW.limit_price, NEW.target_id)
        IS DISTINCT FROM (OLD.order_type, OLD.limit_price, OLD.target_id) THEN
        PERFORM public.vanta_say_no(format('intent %s: what was asked for never changes', OLD.id));
    END IF;
    IF TG_OP = 'INSERT' AND NEW.target_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM public.tx_intents AS rests WHERE rests.id = NEW.target_id AND rests.action = 'open'
            AND rests.order_type <> 'market' AND rests.trader_id = NEW.trader_id AND rests.wallet_id = NEW.wallet_id) THEN
        PERFORM public.vanta_say_no(format('intent %s is no order of this trader that rests', NEW.target_id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_resting BEFORE INSERT OR UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_resting();
"""
BACKWARDS = """
DROP TRIGGER guard_resting ON tx_intents;
DROP FUNCTION vanta_guard_resting();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0031_passkeys'),
    ]

    operations = [
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
            name='limit_price',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name='txintent',
            name='order_type',
            field=models.CharField(choices=[('market', 'market'), ('limit', 'limit'), ('stop_limit', 'stop_limit')], db_default='market', default='market', max_length=32),
        ),
        migrations.AddField(
            model_name='txintent',
            name='target',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='order_changes', to='execution_app.txintent'),
        ),
        migrations.AddField(
            model_name='venueorder',
            name='limit_index',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='venueorder',
            name='rested_to_block',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='fill',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order')], max_length=32),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'changed'), _negated=True), ('action__in', ['levels', 'cancel_order']), _connector='OR'), name='ck_tx_intents_changed_levels'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('order_type__in', ['limit', 'market', 'stop_limit'])), name='ck_tx_intents_order_type'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('limit_price__isnull', True), ('order_type', 'market')), models.Q(models.Q(('order_type', 'market'), _negated=True), ('action', 'open'), ('limit_price__gt', 0), ('limit_price__isnull', False), ('limit_price__lt', 1000000000000000000), ('road', 'onchain')), _connector='OR'), name='ck_tx_intents_limit_price'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('action__in', ['cancel_order']), _negated=True), ('target__isnull', True)), models.Q(('action__in', ['cancel_order']), ('road', 'onchain'), ('state__in', ['changed', 'expired', 'final_cancelled', 'final_reverted', 'held', 'lost_nonce', 'mined', 'no_op', 'pending', 'pending_inclusion', 'rejected', 'reserved', 'sending', 'signed']), ('target__isnull', False)), _connector='OR'), name='ck_tx_intents_target'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['cancel_order', 'close', 'levels', 'open'])), name='ck_tx_intents_action'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
