from django.db import migrations, models
from django.db.models import F, Q

# What a node had said so far tells which bytes are known to have left.
HELD = ["accepted", "already_known", "nonce_too_low"]


def remember_held(apps, schema_editor):
    sends = apps.get_model("execution_app", "TxSend").objects.using(schema_editor.connection.alias)
    sends.filter(Q(outcome__in=HELD) | Q(receipt__isnull=False), offered_at__isnull=False).update(held_at=F("offered_at"))


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0002_guards")]
    operations = [
        migrations.AddField("txsend", "stuck_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("txsend", "held_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("venueorder", "scanned_to_block", models.BigIntegerField(blank=True, null=True)),
        migrations.RunPython(remember_held, migrations.RunPython.noop),
    ]
