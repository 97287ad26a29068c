"""Levels that are watched here and not by the venue."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('signals_app', '0005_more_guards'),
    ]

    operations = [
        migrations.AddField(
            model_name='signal',
            name='break_even_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='signal',
            name='time_stop_s',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='signal',
            name='trailing_stop_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
    ]
