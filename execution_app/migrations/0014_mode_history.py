"""Every change of the stack's modes, append-only."""

import datetime
import django.db.models.functions.datetime
from django.db import migrations, models


FORWARDS = """
CREATE TRIGGER keep_row BEFORE UPDATE OR DELETE ON mode_history FOR EACH ROW EXECUTE FUNCTION vanta_refuse('history is append-only');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON mode_history FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('history is append-only');
"""
BACKWARDS = "DROP TRIGGER keep_whole ON mode_history; DROP TRIGGER keep_row ON mode_history;"


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0013_approvals'),
    ]

    operations = [
        migrations.CreateModel(
            name='ModeChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('kind', models.CharField(choices=[('effective', 'effective'), ('requested', 'requested')], max_length=32)),
                ('mode', models.CharField(choices=[('DRY', 'DRY'), ('LIVE', 'LIVE')], max_length=32)),
                ('reason', models.CharField(blank=True, max_length=400)),
                ('streak', models.PositiveIntegerField()),
                ('epoch', models.BigIntegerField()),
                ('said_by', models.CharField(max_length=150)),
            ],
            options={
                'db_table': 'mode_history',
            },
        ),
        migrations.AddField(
            model_name='stackmode',
            name='requested',
            field=models.CharField(choices=[('DRY', 'DRY'), ('LIVE', 'LIVE')], db_default='DRY', default='DRY', max_length=32),
        ),
        migrations.AddField(
            model_name='stackmode',
            name='requested_dry_at',
            field=models.DateTimeField(db_default=datetime.datetime(2000, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)),
        ),
        migrations.AddConstraint(
            model_name='stackmode',
            constraint=models.CheckConstraint(condition=models.Q(('requested__in', ['DRY', 'LIVE'])), name='ck_stack_mode_requested'),
        ),
        migrations.AddConstraint(
            model_name='modechange',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['effective', 'requested'])), name='ck_mode_history_kind'),
        ),
        migrations.AddConstraint(
            model_name='modechange',
            constraint=models.CheckConstraint(condition=models.Q(('mode__in', ['DRY', 'LIVE'])), name='ck_mode_history_mode'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
