from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0015_wallet_facts")]
    operations = [
        migrations.AddField(
            "chain",
            "finalized_hash",
            models.CharField(blank=True, db_default="", default="", max_length=66),
        ),
    ]
