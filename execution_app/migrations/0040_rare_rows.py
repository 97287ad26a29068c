"""Increases, cancels and positions that drift are few: asked for beside thousands of others, every few seconds."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0039_keeper_delay'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='position',
            index=models.Index(condition=models.Q(('state', 'open'), models.Q(('drift', ''), _negated=True)), fields=['id'], name='ix_positions_drift'),
        ),
        migrations.AddIndex(
            model_name='txintent',
            index=models.Index(condition=models.Q(('action', 'increase')), fields=['id'], name='ix_tx_intents_increases'),
        ),
        migrations.AddIndex(
            model_name='txsend',
            index=models.Index(condition=models.Q(('kind', 'cancel')), fields=['id'], name='ix_tx_sends_cancels'),
        ),
    ]
