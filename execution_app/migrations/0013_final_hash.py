from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0012_more_guards")]
    operations = [
        migrations.AddField(
            "chain",
            "finalized_hash",
            models.CharField(blank=True, db_default="", default="", max_length=66),
        ),
    ]
