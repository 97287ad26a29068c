"""New levels of a position at the venue, and messages that a signer over a network signs after they are fixed."""

from django.db import migrations, models

# A signature comes once, where a signer over a network makes it after the commit that fixed the message.
SIGNED_LATER = """CREATE OR REPLACE FUNCTION vanta_guard_message() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (SELECT 1 FROM public.tx_intents WHERE id = NEW.intent_id AND road = 'gateway' AND state = 'reserved') THEN
            PERFORM public.vanta_say_no(format('intent %s is not reserved for a message', NEW.intent_id));
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.intent_id, NEW.signer, NEW.nonce, NEW.digest, NEW.content, NEW.deadline_ms, NEW.from_block, NEW.made_at)
        IS DISTINCT FROM (OLD.id, OLD.intent_id, OLD.signer, OLD.nonce, OLD.digest, OLD.content, OLD.deadline_ms, OLD.from_block, OLD.made_at)
        OR ({unless}NEW.signature IS DISTINCT FROM OLD.signature) THEN
        PERFORM public.vanta_say_no(format('message %s: signed bytes never change', OLD.id));
    END IF;
    IF NEW.posts < OLD.posts
        OR (OLD.leased_at IS NOT NULL AND NEW.leased_at IS NULL)
        OR (OLD.last_posted_at IS NOT NULL AND NEW.last_posted_at IS NULL)
        OR (OLD.posted_at IS NOT NULL AND NEW.posted_at IS DISTINCT FROM OLD.posted_at)
        OR (OLD.held_at IS NOT NULL AND NEW.held_at IS DISTINCT FROM OLD.held_at)
        OR (NEW.outcome = 'unoffered' AND OLD.outcome <> 'unoffered') THEN
        PERFORM public.vanta_say_no(format('message %s: what happened to it stays told', OLD.id));
    END IF;
    RETURN NEW;
END $$;
"""
MOVES = [("mined", "changed"), ("changed", "pending_inclusion"), ("reserved", "lapsed"), ("reserved", "mined")]
ADDED = ", ".join(f"('{old}', '{new}')" for old, new in MOVES)
FORWARDS = f"INSERT INTO intent_moves (from_state, to_state) VALUES {ADDED};\n" + SIGNED_LATER.replace(
    "{unless}", "octet_length(OLD.signature) > 0 AND "
)
BACKWARDS = (
    SIGNED_LATER.replace("{unless}", "")
    + f"DELETE FROM intent_moves WHERE (from_state, to_state) IN ({ADDED});"
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
            name='sign_after',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='venuemessage',
            name='sign_lease',
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='venuemessage',
            name='sign_leased_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='venuemessage',
            name='sign_tries',
            field=models.PositiveIntegerField(db_default=0, default=0),
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
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('leased_at__isnull', True), ('signature', b'')), models.Q(models.Q(('signature', b''), _negated=True), ('sign_lease__isnull', True), ('sign_leased_at__isnull', True)), _connector='OR'), name='ck_venue_messages_signed_first'),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
