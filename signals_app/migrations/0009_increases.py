"""A signal may increase a position."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('signals_app', '0008_forgotten'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='signal',
            name='ck_signals_side',
        ),
        migrations.AlterField(
            model_name='signal',
            name='side',
            field=models.CharField(max_length=8),
        ),
        migrations.AddConstraint(
            model_name='signal',
            constraint=models.CheckConstraint(condition=models.Q(('side__in', ['CLOSE', 'INCREASE', 'LONG', 'SHORT'])), name='ck_signals_side'),
        ),
    ]
