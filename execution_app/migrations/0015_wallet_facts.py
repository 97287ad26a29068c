"""What wallets, intents and receipts know of cost and of databases that are gone."""

from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_cost() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW.max_cost_wei IS DISTINCT FROM OLD.max_cost_wei THEN
        PERFORM public.vanta_say_no(format('intent %s: what it may cost never changes', OLD.id));
    END IF;
    IF OLD.nonce IS NOT NULL AND NEW.l1_fee_wei IS DISTINCT FROM OLD.l1_fee_wei THEN
        PERFORM public.vanta_say_no(format('intent %s: its cost was fixed with its nonce', OLD.id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_cost BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_cost();
"""
BACKWARDS = """
DROP TRIGGER guard_cost ON tx_intents;
DROP FUNCTION vanta_guard_cost();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0014_mode_history'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.AddField(
            model_name='txintent',
            name='l1_fee_wei',
            field=models.DecimalField(db_default=0, decimal_places=0, default=0, max_digits=40),
        ),
        migrations.AddField(
            model_name='txintent',
            name='max_cost_wei',
            field=models.DecimalField(blank=True, decimal_places=0, max_digits=40, null=True),
        ),
        migrations.AddField(
            model_name='txreceipt',
            name='l1_fee_wei',
            field=models.DecimalField(db_default=0, decimal_places=0, default=0, max_digits=40),
        ),
        migrations.AddField(
            model_name='wallet',
            name='seen_next_nonce',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('max_cost_wei__isnull', True), models.Q(('max_cost_wei__gt', 0), ('max_cost_wei__lt', 1000000000000000000000000000000000000)), _connector='OR'), name='ck_tx_intents_max_cost'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('l1_fee_wei__gte', 0), ('l1_fee_wei__lt', 1000000000000000000000000000000000000)), name='ck_tx_intents_l1_fee'),
        ),
        migrations.AddConstraint(
            model_name='txreceipt',
            constraint=models.CheckConstraint(condition=models.Q(('l1_fee_wei__gte', 0), ('l1_fee_wei__lt', 1000000000000000000000000000000000000)), name='ck_tx_receipts_l1_fee'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
