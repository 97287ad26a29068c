"""Until when the venue lets each wallet trade for its trader, for who watches."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0018_protections'),
    ]

    operations = [
        migrations.AddField(
            model_name='wallet',
            name='delegated_until',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
