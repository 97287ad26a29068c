"""A person may want a replacement before its time; exports and pseudonyms are told in the audit log, whose page has a proper name."""


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0028_archives'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='auditentry',
            options={'verbose_name_plural': 'audit entries'},
        ),
        migrations.RemoveConstraint(
            model_name='auditentry',
            name='ck_audit_log_action',
        ),
        migrations.AddField(
            model_name='txintent',
            name='speed_up_asked_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('restriction_imposed', 'restriction_imposed'), ('restriction_lifted', 'restriction_lifted'), ('cap_set', 'cap_set'), ('cap_removed', 'cap_removed'), ('pending_cancelled', 'pending_cancelled'), ('speed_up_asked', 'speed_up_asked'), ('flatten_begun', 'flatten_begun'), ('flatten_ended', 'flatten_ended'), ('intent_decided', 'intent_decided'), ('chain_adopted', 'chain_adopted'), ('chain_halted', 'chain_halted'), ('chain_resumed', 'chain_resumed'), ('wallet_created', 'wallet_created'), ('wallet_halted', 'wallet_halted'), ('wallet_resumed', 'wallet_resumed'), ('wallet_adopted', 'wallet_adopted'), ('wallet_changed', 'wallet_changed'), ('trader_added', 'trader_added'), ('trader_enabled', 'trader_enabled'), ('trader_disabled', 'trader_disabled'), ('source_secret_issued', 'source_secret_issued'), ('source_secret_retired', 'source_secret_retired'), ('source_limited', 'source_limited'), ('source_granted', 'source_granted'), ('source_revoked', 'source_revoked'), ('token_issued', 'token_issued'), ('token_revoked', 'token_revoked'), ('admin_created', 'admin_created'), ('admin_changed', 'admin_changed'), ('admin_disabled', 'admin_disabled'), ('admin_deleted', 'admin_deleted'), ('group_changed', 'group_changed'), ('group_deleted', 'group_deleted'), ('second_factor_set', 'second_factor_set'), ('second_factor_refused', 'second_factor_refused'), ('login', 'login'), ('login_failed', 'login_failed'), ('logout', 'logout'), ('roles_applied', 'roles_applied'), ('protection_set', 'protection_set'), ('position_corrected', 'position_corrected'), ('database_backed_up', 'database_backed_up'), ('database_restored', 'database_restored'), ('rows_archived', 'rows_archived'), ('untimed_accepted', 'untimed_accepted'), ('telegram_allowed', 'telegram_allowed'), ('telegram_revoked', 'telegram_revoked'), ('telegram_bound', 'telegram_bound'), ('telegram_unbound', 'telegram_unbound'), ('telegram_closed', 'telegram_closed'), ('person_exported', 'person_exported'), ('person_pseudonymised', 'person_pseudonymised')], max_length=32),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['admin_changed', 'admin_created', 'admin_deleted', 'admin_disabled', 'cap_removed', 'cap_set', 'chain_adopted', 'chain_halted', 'chain_resumed', 'database_backed_up', 'database_restored', 'flatten_begun', 'flatten_ended', 'group_changed', 'group_deleted', 'intent_decided', 'login', 'login_failed', 'logout', 'pending_cancelled', 'person_exported', 'person_pseudonymised', 'position_corrected', 'protection_set', 'restriction_imposed', 'restriction_lifted', 'roles_applied', 'rows_archived', 'second_factor_refused', 'second_factor_set', 'source_granted', 'source_limited', 'source_revoked', 'source_secret_issued', 'source_secret_retired', 'speed_up_asked', 'telegram_allowed', 'telegram_bound', 'telegram_closed', 'telegram_revoked', 'telegram_unbound', 'token_issued', 'token_revoked', 'trader_added', 'trader_disabled', 'trader_enabled', 'untimed_accepted', 'wallet_adopted', 'wallet_changed', 'wallet_created', 'wallet_halted', 'wallet_resumed'])), name='ck_audit_log_action'),
        ),
    ]
