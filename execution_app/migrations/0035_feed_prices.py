"""What the venue's feed and catalogue say beside the chain, and the history of prices, which retention may take."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0034_stakes_taken_up_again'),
    ]

    operations = [
        migrations.CreateModel(
            name='FeedPrice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=32)),
                ('source', models.CharField(choices=[('chain', 'chain'), ('core', 'core'), ('pro', 'pro')], max_length=32)),
                ('price', models.DecimalField(decimal_places=10, max_digits=30)),
                ('published_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'feed_prices',
            },
        ),
        migrations.CreateModel(
            name='MarketState',
            fields=[
                ('symbol', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('pair_name', models.CharField(max_length=96)),
                ('is_listed', models.BooleanField()),
                ('is_open', models.BooleanField()),
                ('closes_only', models.BooleanField()),
                ('next_open_at', models.DateTimeField(blank=True, null=True)),
                ('next_close_at', models.DateTimeField(blank=True, null=True)),
                ('seen_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'market_states',
            },
        ),
        migrations.CreateModel(
            name='PriceTick',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=32)),
                ('at', models.DateTimeField()),
                ('price', models.DecimalField(decimal_places=10, max_digits=30)),
                ('core', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
                ('pro', models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True)),
            ],
            options={
                'db_table': 'price_ticks',
            },
        ),
        migrations.RemoveConstraint(
            model_name='archive',
            name='ck_archives_table_name',
        ),
        migrations.AlterField(
            model_name='archive',
            name='table_name',
            field=models.CharField(choices=[('intent_transitions', 'intent_transitions'), ('risk_log', 'risk_log'), ('shadow_fills', 'shadow_fills'), ('signals', 'signals'), ('django_admin_log', 'django_admin_log'), ('price_ticks', 'price_ticks')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='archive',
            constraint=models.CheckConstraint(condition=models.Q(('table_name__in', ['django_admin_log', 'intent_transitions', 'price_ticks', 'risk_log', 'shadow_fills', 'signals'])), name='ck_archives_table_name'),
        ),
        migrations.AddConstraint(
            model_name='feedprice',
            constraint=models.UniqueConstraint(fields=('symbol', 'source'), name='uq_feed_prices_source'),
        ),
        migrations.AddConstraint(
            model_name='feedprice',
            constraint=models.CheckConstraint(condition=models.Q(('source__in', ['chain', 'core', 'pro'])), name='ck_feed_prices_source'),
        ),
        migrations.AddConstraint(
            model_name='feedprice',
            constraint=models.CheckConstraint(condition=models.Q(('price__gt', 0), ('price__lt', 100000000000000000000)), name='ck_feed_prices_price'),
        ),
        migrations.AddConstraint(
            model_name='pricetick',
            constraint=models.UniqueConstraint(fields=('symbol', 'at'), name='uq_price_ticks_at'),
        ),
        migrations.AddConstraint(
            model_name='pricetick',
            constraint=models.CheckConstraint(condition=models.Q(('price__gt', 0), ('price__lt', 100000000000000000000), models.Q(('core', None), models.Q(('core__gt', 0), ('core__lt', 100000000000000000000)), _connector='OR'), models.Q(('pro', None), models.Q(('pro__gt', 0), ('pro__lt', 100000000000000000000)), _connector='OR')), name='ck_price_ticks_price'),
        ),
    ]
