"""Other terms for opens that rest at the venue."""

from importlib import import_module

from django.db import migrations, models

# As 0032 has it, with the column that is new here.
GUARD = import_module("execution_app.migrations.0032_resting_orders").FORWARDS
FUNCTION = GUARD[: GUARD.index("CREATE TRIGGER")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
FORWARDS = FUNCTION.replace("NEW.target_id)\n", "NEW.target_id, NEW.new_slippage_pct)\n").replace(
    "OLD.target_id)", "OLD.target_id, OLD.new_slippage_pct)"
)


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0036_increases'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_changed_levels',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_limit_price',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_target',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_action',
        ),
        migrations.AddField(
            model_name='txintent',
            name='new_slippage_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='venueorder',
            name='limit_price',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name='venueorder',
            name='slippage_pct',
            field=models.DecimalField(blank=True, decimal_places=4, max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='venueorder',
            name='stop_loss',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AddField(
            model_name='venueorder',
            name='take_profit',
            field=models.DecimalField(blank=True, decimal_places=10, max_digits=30, null=True),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('speed_up_asked', 'speed_up_asked'), ('order_changed', 'order_changed'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set'), ('position_corrected', 'position_corrected'), ('database_backed_up', 'database_backed_up'), ('database_restored', 'database_restored'), ('rows_archived', 'rows_archived'), ('untimed_accepted', 'untimed_accepted'), ('telegram_allowed', 'telegram_allowed'), ('telegram_revoked', 'telegram_revoked'), ('telegram_bound', 'telegram_bound'), ('telegram_unbound', 'telegram_unbound'), ('telegram_closed', 'telegram_closed'), ('person_exported', 'person_exported'), ('person_pseudonymised', 'person_pseudonymised')], max_length=32),
        ),
        migrations.AlterField(
            model_name='fill',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order'), ('update_order', 'update_order'), ('increase', 'increase')], max_length=32),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels'), ('cancel_order', 'cancel_order'), ('update_order', 'update_order'), ('increase', 'increase')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'database_backed_up', 'database_restored', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'order_changed', 'pending_cancelled', 'person_exported', 'person_pseudonymised', 'position_corrected', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'rows_archived', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'speed_up_asked', 'telegram_allowed', 'telegram_bound', 'telegram_closed', 'telegram_revoked', 'telegram_unbound', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'untimed_accepted', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'changed'), _negated=True), ('action__in', ['levels', 'cancel_order', 'update_order']), _connector='OR'), name='ck_tx_intents_changed_levels'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('limit_price__isnull', True), ('order_type', 'market')), models.Q(('action', 'update_order'), ('limit_price__gt', 0), ('limit_price__lt', 1000000000000000000), ('order_type', 'market')), models.Q(models.Q(('order_type', 'market'), _negated=True), ('action', 'open'), ('limit_price__gt', 0), ('limit_price__isnull', False), ('limit_price__lt', 1000000000000000000), ('road', 'onchain')), _connector='OR'), name='ck_tx_intents_limit_price'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('action__in', ['cancel_order', 'update_order']), _negated=True), ('target__isnull', True)), models.Q(('action__in', ['cancel_order', 'update_order']), ('road', 'onchain'), ('state__in', ['changed', 'expired', 'final_cancelled', 'final_reverted', 'held', 'lost_nonce', 'mined', 'no_op', 'pending', 'pending_inclusion', 'rejected', 'reserved', 'sending', 'signed']), ('target__isnull', False)), models.Q(('action', 'update_order'), ('road', 'onchain'), ('state', 'rejected'), ('target__isnull', True)), _connector='OR'), name='ck_tx_intents_target'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('new_slippage_pct__isnull', True), models.Q(('action', 'update_order'), ('new_slippage_pct__gt', 0), ('new_slippage_pct__lt', 1000000000000000000)), _connector='OR'), name='ck_tx_intents_new_slippage'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'update_order'), _negated=True), ('limit_price__isnull', False), ('new_slippage_pct__isnull', False), ('take_profit__isnull', False), ('stop_loss__isnull', False), _connector='OR'), name='ck_tx_intents_changes_something'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['cancel_order', 'close', 'increase', 'levels', 'open', 'update_order'])), name='ck_tx_intents_action'),
        ),
        migrations.AddConstraint(
            model_name='venueorder',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('limit_price__isnull', True), ('slippage_pct__isnull', True), ('stop_loss__isnull', True), ('take_profit__isnull', True)), models.Q(('limit_index__isnull', False), ('limit_price__gt', 0), ('limit_price__isnull', False), ('limit_price__lt', 1000000000000000000), ('slippage_pct__gt', 0), ('slippage_pct__isnull', False), ('slippage_pct__lt', 1000000000000000000)), _connector='OR'), name='ck_venue_orders_terms'),
        ),
        migrations.RunSQL(FORWARDS, FUNCTION),
    ]
