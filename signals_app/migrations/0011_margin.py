"""A signal may put collateral into a position, or take some out."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('signals_app', '0010_order_changes'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='signal',
            name='ck_signals_side',
        ),
        migrations.RemoveConstraint(
            model_name='signal',
            name='ck_signals_changes',
        ),
        migrations.AddField(
            model_name='signal',
            name='deposit_usdc',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=24, null=True),
        ),
        migrations.AddField(
            model_name='signal',
            name='withdraw_usdc',
            field=models.DecimalField(blank=True, decimal_places=6, max_digits=24, null=True),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.CheckConstraint(condition=models.Q(('side__in', ['CHANGE', 'CLOSE', 'INCREASE', 'LONG', 'MARGIN', 'SHORT'])), name='ck_signals_side'),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('changes__isnull', False), ('side', 'CHANGE')), models.Q(('changes__isnull', True), ('side', 'MARGIN'), ('slippage_pct__isnull', True)), models.Q(models.Q(('side__in', ['CHANGE', 'MARGIN']), _negated=True), ('changes__isnull', True), ('slippage_pct__isnull', False)), _connector='OR'), name='ck_signals_changes'),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('deposit_usdc__isnull', False), ('side', 'MARGIN'), ('withdraw_usdc__isnull', True)), models.Q(('deposit_usdc__isnull', True), ('side', 'MARGIN'), ('withdraw_usdc__isnull', False)), models.Q(models.Q(('side', 'MARGIN'), _negated=True), ('deposit_usdc__isnull', True), ('withdraw_usdc__isnull', True)), _connector='OR'), name='ck_signals_margin'),
        ),
    ]
