"""What a simulation would have made of each LIVE order, and how far its fill was from that."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_shadow() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.intent_id, NEW.oracle_price, NEW.price, NEW.fee_usdc, NEW.refusal, NEW.estimated_at)
        IS DISTINCT FROM (OLD.id, OLD.intent_id, OLD.oracle_price, OLD.price, OLD.fee_usdc, OLD.refusal, OLD.estimated_at) THEN
        PERFORM public.vanta_say_no(format('shadow %s: an estimate is made once', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_shadow BEFORE UPDATE ON shadow_fills FOR EACH ROW EXECUTE FUNCTION vanta_guard_shadow();
CREATE TRIGGER keep_row BEFORE DELETE ON shadow_fills FOR EACH ROW EXECUTE FUNCTION vanta_refuse('estimates are kept');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON shadow_fills FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('estimates are kept');
"""

BACKWARDS = """
DROP TRIGGER keep_whole ON shadow_fills;
DROP TRIGGER keep_row ON shadow_fills;
DROP TRIGGER guard_shadow ON shadow_fills;
DROP FUNCTION vanta_guard_shadow();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0024_telegram_bindings'),
    ]

    operations = [
        migrations.CreateModel(
            name='Shadow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('oracle_price', models.DecimalField(decimal_places=10, max_digits=30)),
                ('price', models.DecimalField(decimal_places=10, max_digits=30)),
                ('fee_usdc', models.DecimalField(decimal_places=6, max_digits=24)),
                ('refusal', models.CharField(blank=True, db_default='', default='', max_length=200)),
                ('estimated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('price_gap_pct', models.DecimalField(blank=True, decimal_places=6, max_digits=16, null=True)),
                ('fee_gap_usdc', models.DecimalField(blank=True, decimal_places=6, max_digits=24, null=True)),
                ('delay_ms', models.BigIntegerField(blank=True, null=True)),
                ('intent', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='shadow', to='execution_app.txintent')),
            ],
            options={
                'db_table': 'shadow_fills',
                'indexes': [models.Index(condition=models.Q(('delay_ms__isnull', False)), fields=['estimated_at'], name='ix_shadow_fills_filled')],
                'constraints': [models.CheckConstraint(condition=models.Q(('oracle_price__gt', 0), ('oracle_price__lt', 100000000000000000000), ('price__gt', 0), ('price__lt', 100000000000000000000)), name='ck_shadow_fills_price'), models.CheckConstraint(condition=models.Q(('fee_usdc__gte', 0), ('fee_usdc__lt', 1000000000000000000)), name='ck_shadow_fills_fee'), models.CheckConstraint(condition=models.Q(models.Q(('delay_ms__isnull', True), ('fee_gap_usdc__isnull', True), ('price_gap_pct__isnull', True)), models.Q(('delay_ms__gte', 0), ('delay_ms__isnull', False), ('fee_gap_usdc__isnull', False), ('fee_gap_usdc__lt', 1000000000000000000), ('price_gap_pct__isnull', False), ('price_gap_pct__lt', 10000000000)), _connector='OR'), name='ck_shadow_fills_gap')],
            },
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
