"""Who may talk to the bot, and which updates it has taken."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='TelegramUpdate',
            fields=[
                ('update_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('tg_user_id', models.BigIntegerField(db_index=True)),
                ('body', models.JSONField(default=dict)),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('handled_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'db_table': 'telegram_updates',
                'indexes': [models.Index(condition=models.Q(('handled_at__isnull', True)), fields=['update_id'], name='ix_telegram_updates_open')],
                'constraints': [models.CheckConstraint(condition=models.Q(('handled_at__isnull', True), ('body', {}), _connector='OR'), name='ck_telegram_updates_forgotten')],
            },
        ),
        migrations.CreateModel(
            name='TelegramUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tg_user_id', models.BigIntegerField(unique=True)),
                ('role', models.CharField(choices=[('viewer', 'viewer'), ('trader', 'trader'), ('operator', 'operator')], max_length=32)),
                ('account', models.CharField(blank=True, db_default='', default='', max_length=150)),
                ('label', models.CharField(blank=True, db_default='', default='', max_length=64)),
                ('allowed_by', models.CharField(max_length=150)),
                ('allowed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'telegram_users',
                'constraints': [models.CheckConstraint(condition=models.Q(('tg_user_id__gt', 0)), name='ck_telegram_users_id'), models.CheckConstraint(condition=models.Q(('role__in', ['operator', 'trader', 'viewer'])), name='ck_telegram_users_role')],
            },
        ),
    ]
