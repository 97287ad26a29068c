"""Of an update it is kept which restriction it asked for: an older word to lift that comes to its turn later must not win."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bot', '0006_role_notices'),
    ]

    operations = [
        migrations.AddField(
            model_name='telegramupdate',
            name='restricts',
            field=models.CharField(blank=True, choices=[('emergency_stop', 'emergency_stop'), ('dry', 'dry'), ('reduce_only', 'reduce_only')], db_default='', default='', max_length=32),
        ),
        migrations.AddConstraint(
            model_name='telegramupdate',
            constraint=models.CheckConstraint(condition=models.Q(('restricts__in', ['', 'dry', 'emergency_stop', 'reduce_only'])), name='ck_telegram_updates_restricts'),
        ),
    ]
