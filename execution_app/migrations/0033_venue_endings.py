"""Fills that no order of ours made: what the venue itself, or an owner, ended a trade by."""

import django.db.models.deletion
from django.db import migrations, models

ENDS = [("close", "close"), ("take_profit", "take_profit"), ("stop_loss", "stop_loss"), ("liquidation", "liquidation"), ("owner", "owner"), ("closed_elsewhere", "closed_elsewhere")]
BY_VENUE = ["liquidation", "owner", "stop_loss", "take_profit"]

GUARD = """
CREATE OR REPLACE FUNCTION vanta_guard_position() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.trader_id, NEW.venue, NEW.symbol, NEW.pair_index, NEW.trade_index, NEW.opened_at, NEW.mode)
        IS DISTINCT FROM (OLD.id, OLD.trader_id, OLD.venue, OLD.symbol, OLD.pair_index, OLD.trade_index, OLD.opened_at, OLD.mode) THEN
        PERFORM public.vanta_say_no(format('position %s is the same trade for life', OLD.id));
    END IF;
    IF OLD.state = 'closed' AND OLD.ended_by {known} AND OLD.settled_at IS NOT NULL
        AND (NEW.state, NEW.ended_by) IS DISTINCT FROM (OLD.state, OLD.ended_by) THEN
        PERFORM public.vanta_say_no(format('position %s is closed for good and cannot become %s', OLD.id, NEW.state));
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ("execution_app", "0032_resting_orders"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="position", name="ck_positions_ended_by"),
        migrations.RemoveIndex(model_name="position", name="ix_positions_closed_elsewhere"),
        migrations.AddField(
            model_name="fill",
            name="ended_by",
            field=models.CharField(blank=True, choices=ENDS, db_default="", default="", max_length=32),
        ),
        migrations.AlterField(
            model_name="fill",
            name="intent",
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name="fill", to="execution_app.txintent"),
        ),
        migrations.AlterField(
            model_name="position",
            name="ended_by",
            field=models.CharField(blank=True, choices=ENDS, db_default="", default="", max_length=32),
        ),
        migrations.AddConstraint(
            model_name="position",
            constraint=models.CheckConstraint(
                condition=models.Q(("ended_by", ""), models.Q(("ended_by__in", ["close", "closed_elsewhere", *BY_VENUE]), ("state", "closed")), _connector="OR"),
                name="ck_positions_ended_by",
            ),
        ),
        migrations.AddConstraint(
            model_name="fill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_by", ""), ("intent__isnull", False)),
                    models.Q(("action", "close"), ("ended_by__in", BY_VENUE), ("intent__isnull", True), ("sent_to_trader_usdc__isnull", False)),
                    _connector="OR",
                ),
                name="ck_fills_whose",
            ),
        ),
        migrations.AddIndex(
            model_name="position",
            index=models.Index(condition=models.Q(("ended_by__in", ["closed_elsewhere", *BY_VENUE])), fields=["updated_at"], name="ix_positions_not_by_us"),
        ),
        migrations.RunSQL(GUARD.format(known="NOT IN ('', 'closed_elsewhere')"), GUARD.format(known="= 'close'")),
    ]
