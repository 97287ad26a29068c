"""A signal may change an order that rests."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('signals_app', '0009_increases'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='signal',
            name='ck_signals_side',
        ),
        migrations.AddField(
            model_name='signal',
            name='changes',
            field=models.CharField(blank=True, max_length=128, null=True),
        ),
        migrations.AlterField(
            model_name='signal',
            name='slippage_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.CheckConstraint(condition=models.Q(('side__in', ['CHANGE', 'CLOSE', 'INCREASE', 'LONG', 'SHORT'])), name='ck_signals_side'),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('changes__isnull', False), ('side', 'CHANGE')), models.Q(models.Q(('side', 'CHANGE'), _negated=True), ('changes__isnull', True), ('slippage_pct__isnull', False)), _connector='OR'), name='ck_signals_changes'),
        ),
    ]
