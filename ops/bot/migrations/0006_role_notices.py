"""Somebody may be told of another role of theirs."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bot', '0005_pages'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='noticelevel',
            name='ck_telegram_levels_event',
        ),
        # On the way back nobody can have chosen what is no event any more.
        migrations.RunSQL(migrations.RunSQL.noop, "DELETE FROM telegram_levels WHERE event = 'role'"),
        migrations.AlterField(
            model_name='noticelevel',
            name='event',
            field=models.CharField(choices=[('accepted', 'accepted'), ('refused', 'refused'), ('sent', 'sent'), ('replaced', 'replaced'), ('mined', 'mined'), ('filled', 'filled'), ('reverted', 'reverted'), ('level', 'level'), ('liquidated', 'liquidated'), ('drift', 'drift'), ('mode', 'mode'), ('gas', 'gas'), ('delegate', 'delegate'), ('bound', 'bound'), ('role', 'role'), ('daily', 'daily')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='noticelevel',
            constraint=models.CheckConstraint(condition=models.Q(('event__in', ['accepted', 'bound', 'daily', 'delegate', 'drift', 'filled', 'gas', 'level', 'liquidated', 'mined', 'mode', 'refused', 'replaced', 'reverted', 'role', 'sent'])), name='ck_telegram_levels_event'),
        ),
    ]
