"""What the bot tells unasked, in which language and how loudly, and up to where everything was told."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bot', '0003_bindings'),
    ]

    operations = [
        migrations.CreateModel(
            name='Condition',
            fields=[
                ('name', models.CharField(max_length=120, primary_key=True, serialize=False)),
                ('state', models.CharField(blank=True, default='', max_length=200)),
                ('times', models.PositiveIntegerField(default=0)),
            ],
            options={
                'db_table': 'telegram_conditions',
            },
        ),
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tg_user_id', models.BigIntegerField()),
                ('thread', models.CharField(max_length=120)),
                ('urgent', models.BooleanField(default=False)),
                ('silent', models.BooleanField(default=False)),
                ('about', models.JSONField(default=dict)),
                ('steps', models.JSONField(default=list)),
                ('wanted', models.PositiveIntegerField(default=0)),
                ('delivered', models.PositiveIntegerField(default=0)),
                ('due_at', models.DateTimeField(blank=True, null=True)),
                ('begun_at', models.DateTimeField(blank=True, null=True)),
                ('doubted', models.BooleanField(default=False)),
                ('message_id', models.BigIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('failed_at', models.DateTimeField(blank=True, null=True)),
                ('failed_why', models.CharField(blank=True, db_default='', default='', max_length=200)),
            ],
            options={
                'db_table': 'telegram_notices',
                'indexes': [models.Index(condition=models.Q(('due_at__isnull', False)), fields=['tg_user_id', '-urgent', 'due_at', 'id'], name='ix_telegram_notices_due'), models.Index(fields=['created_at'], name='ix_telegram_notices_created')],
                'constraints': [models.UniqueConstraint(fields=('tg_user_id', 'thread'), name='uq_telegram_notices_thread'), models.CheckConstraint(condition=models.Q(('delivered__lte', models.F('wanted'))), name='ck_telegram_notices_delivered'), models.CheckConstraint(condition=models.Q(models.Q(('delivered', 0), ('message_id__isnull', True)), models.Q(('delivered__gte', 1), ('message_id__isnull', False), ('sent_at__isnull', False)), _connector='OR'), name='ck_telegram_notices_message'), models.CheckConstraint(condition=models.Q(models.Q(('delivered', models.F('wanted')), ('due_at__isnull', True)), models.Q(('delivered__lt', models.F('wanted')), ('due_at__isnull', False), ('failed_at__isnull', True)), models.Q(('due_at__isnull', True), ('failed_at__isnull', False), models.Q(('failed_why', ''), _negated=True)), _connector='OR'), name='ck_telegram_notices_due')],
            },
        ),
        migrations.CreateModel(
            name='NoticeLevel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tg_user_id', models.BigIntegerField()),
                ('event', models.CharField(choices=[('accepted', 'accepted'), ('refused', 'refused'), ('sent', 'sent'), ('replaced', 'replaced'), ('mined', 'mined'), ('filled', 'filled'), ('reverted', 'reverted'), ('level', 'level'), ('liquidated', 'liquidated'), ('drift', 'drift'), ('mode', 'mode'), ('gas', 'gas'), ('delegate', 'delegate'), ('daily', 'daily')], max_length=32)),
                ('level', models.CharField(choices=[('on', 'on'), ('silent', 'silent'), ('off', 'off')], max_length=32)),
            ],
            options={
                'db_table': 'telegram_levels',
                'constraints': [models.UniqueConstraint(fields=('tg_user_id', 'event'), name='uq_telegram_levels'), models.CheckConstraint(condition=models.Q(('event__in', ['accepted', 'daily', 'delegate', 'drift', 'filled', 'gas', 'level', 'liquidated', 'mined', 'mode', 'refused', 'replaced', 'reverted', 'sent'])), name='ck_telegram_levels_event'), models.CheckConstraint(condition=models.Q(('level__in', ['off', 'on', 'silent'])), name='ck_telegram_levels_level')],
            },
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('name', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('number', models.BigIntegerField(default=0)),
            ],
            options={
                'db_table': 'telegram_tallies',
                'constraints': [models.CheckConstraint(condition=models.Q(('number__gte', 0)), name='ck_telegram_tallies_number')],
            },
        ),
        migrations.CreateModel(
            name='TelegramChat',
            fields=[
                ('tg_user_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('asked_language', models.CharField(blank=True, db_default='', default='', max_length=8)),
                ('language', models.CharField(blank=True, db_default='', default='', max_length=35)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
                ('closed_why', models.CharField(blank=True, db_default='', default='', max_length=200)),
            ],
            options={
                'db_table': 'telegram_chats',
                'constraints': [models.CheckConstraint(condition=models.Q(('tg_user_id__gt', 0)), name='ck_telegram_chats_id'), models.CheckConstraint(condition=models.Q(models.Q(('closed_at__isnull', True), ('closed_why', '')), models.Q(('closed_at__isnull', False), models.Q(('closed_why', ''), _negated=True)), _connector='OR'), name='ck_telegram_chats_closed')],
            },
        ),
    ]
