"""New levels of a position at the venue: an intent without an order, and the state in which the venue has taken them."""

from django.db import migrations, models

GUARD = """CREATE OR REPLACE FUNCTION vanta_guard_road() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state NOT IN ('pending', 'held') AND NEW.road IS DISTINCT FROM OLD.road THEN
        PERFORM public.vanta_say_no(format('intent %s goes its road to the end', OLD.id));
    END IF;
    IF OLD.road = 'gateway' AND OLD.state NOT IN ('pending', 'held')
        AND (NEW.wallet_id, NEW.position_id, NEW.close_usdc, NEW.reduce_usdc, NEW.wanted_price, NEW.nonce{more_new})
        IS DISTINCT FROM (OLD.wallet_id, OLD.position_id, OLD.close_usdc, OLD.reduce_usdc, OLD.wanted_price, OLD.nonce{more_old}) THEN
        PERFORM public.vanta_say_no(format('intent %s owns its message for life', OLD.id));
    END IF;
    RETURN NEW;
END $$;
"""
MOVES = [("mined", "changed"), ("changed", "pending_inclusion")]
FORWARDS = (
    "INSERT INTO intent_moves (from_state, to_state) VALUES "
    + ", ".join(f"('{old}', '{new}')" for old, new in MOVES)
    + ";\n"
    + GUARD.replace("{more_new}", ", NEW.action, NEW.take_profit, NEW.stop_loss").replace(
        "{more_old}", ", OLD.action, OLD.take_profit, OLD.stop_loss"
    )
)
BACKWARDS = (
    GUARD.replace("{more_new}", "").replace("{more_old}", "")
    + "DELETE FROM intent_moves WHERE 'changed' IN (from_state, to_state);"
)


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0026_telegram_closed'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_action',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_close_size',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_state',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_sent_owns_slot',
        ),
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_slot_only_when_sent',
        ),
        migrations.AddField(
            model_name='venuemessage',
            name='spent_at_block',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='venuemessage',
            name='spent_at_hash',
            field=models.CharField(blank=True, db_default='', default='', max_length=66),
        ),
        migrations.AlterField(
            model_name='fill',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels')], max_length=32),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='action',
            field=models.CharField(choices=[('open', 'open'), ('close', 'close'), ('levels', 'levels')], max_length=32),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='state',
            field=models.CharField(choices=[('pending', 'pending'), ('held', 'held'), ('reserved', 'reserved'), ('signed', 'signed'), ('sending', 'sending'), ('pending_inclusion', 'pending_inclusion'), ('mined', 'mined'), ('ordered', 'ordered'), ('filled', 'filled'), ('changed', 'changed'), ('venue_cancelled', 'venue_cancelled'), ('final_reverted', 'final_reverted'), ('final_cancelled', 'final_cancelled'), ('rejected', 'rejected'), ('simulated', 'simulated'), ('expired', 'expired'), ('no_op', 'no_op'), ('lost_nonce', 'lost_nonce'), ('lapsed', 'lapsed')], default='pending', max_length=32),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'levels'), _negated=True), models.Q(('position__isnull', False), ('road', 'gateway'), ('state__in', ['changed', 'expired', 'held', 'lapsed', 'mined', 'no_op', 'pending', 'pending_inclusion', 'rejected', 'reserved', 'sending', 'signed'])), _connector='OR'), name='ck_tx_intents_levels'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'changed'), _negated=True), ('action', 'levels'), _connector='OR'), name='ck_tx_intents_changed_levels'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'close'), ('state__in', ['changed', 'filled', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'mined', 'ordered', 'pending_inclusion', 'reserved', 'sending', 'signed', 'venue_cancelled']), _negated=True), models.Q(('close_usdc__isnull', False), ('position__isnull', False)), _connector='OR'), name='ck_tx_intents_close_size'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['changed', 'expired', 'filled', 'final_cancelled', 'final_reverted', 'held', 'lapsed', 'lost_nonce', 'mined', 'no_op', 'ordered', 'pending', 'pending_inclusion', 'rejected', 'reserved', 'sending', 'signed', 'simulated', 'venue_cancelled'])), name='ck_tx_intents_state'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('action__in', ['close', 'levels', 'open'])), name='ck_tx_intents_action'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['changed', 'filled', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'mined', 'ordered', 'pending_inclusion', 'reserved', 'sending', 'signed', 'venue_cancelled']), _negated=True), models.Q(('mode', 'LIVE'), ('mode__isnull', False), ('nonce__isnull', True), ('road', 'gateway'), ('trader__isnull', False), ('wallet__isnull', False)), models.Q(('calldata__isnull', False), ('gas_limit__isnull', False), ('mode', 'LIVE'), ('mode__isnull', False), ('nonce__isnull', False), ('road__in', ['', 'onchain']), ('trader__isnull', False), ('value_wei__isnull', False), ('wallet__isnull', False)), _connector='OR'), name='ck_tx_intents_sent_owns_slot'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['changed', 'filled', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'mined', 'ordered', 'pending_inclusion', 'reserved', 'sending', 'signed', 'venue_cancelled']), ('nonce__isnull', True), _connector='OR'), name='ck_tx_intents_slot_only_when_sent'),
        ),
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('spent_at_block__isnull', True), ('spent_at_hash', '')), models.Q(('spent_at_block__gte', 0), ('spent_at_hash__regex', '^0x[0-9a-fA-F]{64}$')), _connector='OR'), name='ck_venue_messages_spent_at'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
