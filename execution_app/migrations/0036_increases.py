"""Increases of a position: an intent and a fill of their own, and trades whose leverage and opening price are blended."""

from importlib import import_module

from django.db import migrations, models

# What was released for a position that turns out to be open is at stake again: what opened it, and what increased it.
taken_up_again = import_module("execution_app.migrations.0034_stakes_taken_up_again").FORWARDS
ALL_PARTS = taken_up_again.replace("fill.action = 'open'", "fill.action IN ('open', 'increase')")
FORWARDS = """
CREATE FUNCTION vanta_guard_increase() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.position_id, NEW.is_long, NEW.collateral_usdc, NEW.leverage_x)
        IS DISTINCT FROM (OLD.position_id, OLD.is_long, OLD.collateral_usdc, OLD.leverage_x) THEN
        PERFORM public.vanta_say_no(format('intent %s: what was asked for never changes', OLD.id));
    END IF;
    IF TG_OP = 'INSERT' AND NEW.position_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM public.positions AS held WHERE held.id = NEW.position_id AND held.trader_id = NEW.trader_id
            AND held.symbol = NEW.symbol AND held.is_long = NEW.is_long) THEN
        PERFORM public.vanta_say_no(format('position %s is none of this trader on this symbol and side', NEW.position_id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_increase BEFORE INSERT ON tx_intents FOR EACH ROW
    WHEN (NEW.action = 'increase') EXECUTE FUNCTION vanta_guard_increase();
CREATE TRIGGER guard_increase_kept BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN (OLD.action = 'increase') EXECUTE FUNCTION vanta_guard_increase();
"""
BACKWARDS = """
DROP TRIGGER guard_increase_kept ON tx_intents;
DROP TRIGGER guard_increase ON tx_intents;
DROP FUNCTION vanta_guard_increase();
"""

class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0035_feed_prices'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='fill',
            name='ck_fills_action',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_only_position',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_action',
        ),
        migrations.AddField(
            model_name='correction',
            name='open_price',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name='fill',
            name='leverage_after_x',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=20, null=True),
        ),
        migrations.AddField(
            model_name='fill',
            name='open_price_after',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name='position',
            name='grown_price',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AlterField(
            model_name='correction',
            name='leverage_x',
            field=models.DecimalField(decimal_places=10, max_digits=20),
        ),
        migrations.AlterField(
            model_name='externaltrade',
            name='leverage_x',
            field=models.DecimalField(decimal_places=10, max_digits=20),
        ),
        migrations.AlterField(
            model_name='fill',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order'), ('increase', 'increase')], max_length=32),
        ),
        migrations.AlterField(
            model_name='fill',
            name='leverage_x',
            field=models.DecimalField(decimal_places=10, max_digits=20),
        ),
        migrations.AlterField(
            model_name='position',
            name='leverage_x',
            field=models.DecimalField(decimal_places=10, max_digits=20),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order'), ('increase', 'increase')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='correction',
            constraint=models.CheckConstraint(condition=models.Q(('open_price__isnull', True), models.Q(('open_price__gt', 0), ('open_price__lt', 1000000000000000000)), _connector='OR'), name='ck_position_corrections_open_price'),
        ),
        migrations.AddConstraint(
            model_name='fill',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['close', 'increase', 'open'])), name='ck_fills_action'),
        ),
        migrations.AddConstraint(
            model_name='fill',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('action', 'increase'), _negated=True), ('leverage_after_x__isnull', True), ('open_price_after__isnull', True)), models.Q(('action', 'increase'), ('leverage_after_x__gt', 0), ('leverage_after_x__isnull', False), ('leverage_after_x__lt', 1000000), ('open_price_after__gt', 0), ('open_price_after__isnull', False), ('open_price_after__lt', 1000000000000000000)), _connector='OR'), name='ck_fills_increase'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('only_position', False), models.Q(('action__in', ['close', 'increase']), ('position__isnull', False)), _connector='OR'), name='ck_tx_intents_only_position'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'increase'), _negated=True), ('state', 'rejected'), models.Q(models.Q(('state__in', ('changed', 'final_reverted', 'final_cancelled', 'lost_nonce', 'no_op')), _negated=True), ('collateral_usdc__isnull', False), ('is_long__isnull', False), ('leverage_x__isnull', False), ('nonce__isnull', True), ('position__isnull', False), ('road__in', ['', 'gateway'])), _connector='OR'), name='ck_tx_intents_increase'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['cancel_order', 'close', 'increase', 'levels', 'open'])), name='ck_tx_intents_action'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
        migrations.RunSQL(ALL_PARTS, taken_up_again),
    ]
