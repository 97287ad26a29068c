"""When a simulated order's keeper would come, and that this, and the price it was decided at, stay as they were."""

from django.db import migrations, models

FORWARDS = """
CREATE TRIGGER keep_keeper_due BEFORE UPDATE OF keeper_due_at, wanted_price ON tx_intents FOR EACH ROW
    WHEN (OLD.keeper_due_at IS NOT NULL
        AND (NEW.keeper_due_at, NEW.wanted_price) IS DISTINCT FROM (OLD.keeper_due_at, OLD.wanted_price))
    EXECUTE FUNCTION vanta_refuse('what a simulation has registered does not change');
"""
BACKWARDS = "DROP TRIGGER keep_keeper_due ON tx_intents;"


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0038_margin'),
    ]

    operations = [
        migrations.AddField(
            model_name='txintent',
            name='keeper_due_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('keeper_due_at__isnull', True), models.Q(('mode', 'DRY'), ('mode__isnull', False), ('wanted_price__isnull', False), ('action__in', ['open', 'close', 'increase']), ('wanted_price__gt', 0), ('wanted_price__lt', 1000000000000000000)), _connector='OR'), name='ck_tx_intents_keeper_due'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
