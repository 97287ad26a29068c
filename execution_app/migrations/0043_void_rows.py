"""A void row says whose fill left the chain, so that what is opened anew is known again, whatever else is like it."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("execution_app", "0042_reached_head"),
    ]

    operations = [
        migrations.AddField(
            model_name="position",
            name="opened_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="execution_app.txintent",
            ),
        ),
    ]
