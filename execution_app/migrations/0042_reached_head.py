"""How far a majority had reached, beside the head that was acted on; until now nobody tells them apart."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0041_conditional_guards'),
    ]

    operations = [
        migrations.AddField(
            model_name='chain',
            name='reached_number',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.RunSQL('UPDATE chains SET reached_number = head_number', migrations.RunSQL.noop),
    ]
