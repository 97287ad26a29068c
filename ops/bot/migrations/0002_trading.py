"""Orders that were quoted and wait for one tap, and where a conversation about one stands."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bot', '0001_start'),
    ]

    operations = [
        migrations.CreateModel(
            name='TelegramConfirmation',
            fields=[
                ('token', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('tg_user_id', models.BigIntegerField()),
                ('message_id', models.BigIntegerField(blank=True, null=True)),
                ('asked', models.JSONField()),
                ('expires_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'db_table': 'telegram_confirmations',
                'constraints': [models.CheckConstraint(condition=models.Q(('token__regex', '^[A-Za-z0-9_-]{16,32}$')), name='ck_telegram_confirmations_token'), models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='ck_telegram_confirmations_expiry')],
            },
        ),
        migrations.CreateModel(
            name='TelegramFlow',
            fields=[
                ('tg_user_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('step', models.CharField(choices=[('symbol', 'symbol'), ('side', 'side'), ('collateral', 'collateral'), ('leverage', 'leverage'), ('slippage', 'slippage'), ('take_profit', 'take_profit'), ('stop_loss', 'stop_loss'), ('code', 'code')], max_length=32)),
                ('answers', models.JSONField(default=dict)),
                ('message_id', models.BigIntegerField(blank=True, null=True)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'telegram_flows',
                'constraints': [models.CheckConstraint(condition=models.Q(('step__in', ['code', 'collateral', 'leverage', 'side', 'slippage', 'stop_loss', 'symbol', 'take_profit'])), name='ck_telegram_flows_step')],
            },
        ),
    ]
