from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0007_heartbeat_note")]
    operations = [
        migrations.AddField("txintent", "cancel_asked_at", models.DateTimeField(blank=True, null=True)),
    ]
