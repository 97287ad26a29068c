"""Signed messages of the gateway's road, and the state of those whose deadline passed unused."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

EARLIER = ("signed", "sending", "pending_inclusion")
FORWARDS = "INSERT INTO intent_moves (from_state, to_state) VALUES " + ", ".join(f"('{state}', 'lapsed')" for state in EARLIER) + """;

CREATE FUNCTION vanta_guard_road() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state NOT IN ('pending', 'held') AND NEW.road IS DISTINCT FROM OLD.road THEN
        PERFORM public.vanta_say_no(format('intent %s goes its road to the end', OLD.id));
    END IF;
    IF OLD.road = 'gateway' AND OLD.state NOT IN ('pending', 'held')
        AND (NEW.wallet_id, NEW.position_id, NEW.close_usdc, NEW.reduce_usdc, NEW.wanted_price, NEW.nonce)
        IS DISTINCT FROM (OLD.wallet_id, OLD.position_id, OLD.close_usdc, OLD.reduce_usdc, OLD.wanted_price, OLD.nonce) THEN
        PERFORM public.vanta_say_no(format('intent %s owns its message for life', OLD.id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_road BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_road();

CREATE FUNCTION vanta_guard_message() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (SELECT 1 FROM public.tx_intents WHERE id = NEW.intent_id AND road = 'gateway' AND state = 'reserved') THEN
            PERFORM public.vanta_say_no(format('intent %s is not reserved for a message', NEW.intent_id));
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.intent_id, NEW.signer, NEW.nonce, NEW.digest, NEW.content, NEW.deadline_ms, NEW.from_block, NEW.made_at)
        IS DISTINCT FROM (OLD.id, OLD.intent_id, OLD.signer, OLD.nonce, OLD.digest, OLD.content, OLD.deadline_ms, OLD.from_block, OLD.made_at)
        OR NEW.signature IS DISTINCT FROM OLD.signature THEN
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
CREATE TRIGGER guard_message BEFORE INSERT OR UPDATE ON venue_messages FOR EACH ROW EXECUTE FUNCTION vanta_guard_message();
CREATE TRIGGER keep_row BEFORE DELETE ON venue_messages FOR EACH ROW EXECUTE FUNCTION vanta_refuse('signed messages are kept');
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON venue_messages FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('its rows are kept');
"""
BACKWARDS = """
DROP TRIGGER keep_whole ON venue_messages;
DROP TRIGGER keep_row ON venue_messages;
DROP TRIGGER guard_message ON venue_messages;
DROP FUNCTION vanta_guard_message();
DROP TRIGGER guard_road ON tx_intents;
DROP FUNCTION vanta_guard_road();
DELETE FROM intent_moves WHERE to_state = 'lapsed';
"""


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0021_restore_points")]
    operations = [
        migrations.CreateModel(
            name='VenueMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('signer', models.CharField(max_length=42)),
                ('nonce', models.CharField(max_length=66)),
                ('digest', models.CharField(max_length=66, unique=True)),
                ('content', models.BinaryField()),
                ('deadline_ms', models.BigIntegerField()),
                ('from_block', models.BigIntegerField()),
                ('signature', models.BinaryField()),
                ('made_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('leased_at', models.DateTimeField(blank=True, null=True)),
                ('posted_at', models.DateTimeField(blank=True, null=True)),
                ('last_posted_at', models.DateTimeField(blank=True, null=True)),
                ('posts', models.PositiveIntegerField(default=0)),
                ('held_at', models.DateTimeField(blank=True, null=True)),
                ('outcome', models.CharField(choices=[('unoffered', 'unoffered'), ('accepted', 'accepted'), ('already_known', 'already_known'), ('nonce_too_low', 'nonce_too_low'), ('nonce_too_high', 'nonce_too_high'), ('replacement_underpriced', 'replacement_underpriced'), ('underpriced', 'underpriced'), ('insufficient_funds', 'insufficient_funds'), ('invalid_permanent', 'invalid_permanent'), ('pool_full', 'pool_full'), ('rpc_fault', 'rpc_fault'), ('unknown', 'unknown')], default='unoffered', max_length=32)),
                ('tracking_id', models.CharField(blank=True, db_default='', default='', max_length=64)),
                ('last_seq', models.IntegerField(db_default=-1, default=-1)),
                ('said', models.CharField(blank=True, db_default='', default='', max_length=200)),
                ('asked_at', models.DateTimeField(blank=True, null=True)),
                ('unused_at_block', models.BigIntegerField(blank=True, null=True)),
                ('unused_at_hash', models.CharField(blank=True, db_default='', default='', max_length=66)),
            ],
            options={
                'db_table': 'venue_messages',
            },
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
        migrations.RemoveConstraint(
            model_name='txintent',
            name='ck_tx_intents_terminal_is_settled',
        ),
        migrations.AddField(
            model_name='txintent',
            name='road',
            field=models.CharField(blank=True, choices=[('onchain', 'onchain'), ('gateway', 'gateway')], db_default='', default='', max_length=32),
        ),
        migrations.AlterField(
            model_name='txintent',
            name='state',
            field=models.CharField(choices=[('pending', 'pending'), ('held', 'held'), ('reserved', 'reserved'), ('signed', 'signed'), ('sending', 'sending'), ('pending_inclusion', 'pending_inclusion'), ('mined', 'mined'), ('ordered', 'ordered'), ('filled', 'filled'), ('venue_cancelled', 'venue_cancelled'), ('final_reverted', 'final_reverted'), ('final_cancelled', 'final_cancelled'), ('rejected', 'rejected'), ('simulated', 'simulated'), ('expired', 'expired'), ('no_op', 'no_op'), ('lost_nonce', 'lost_nonce'), ('lapsed', 'lapsed')], default='pending', max_length=32),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'close'), ('state__in', ['filled', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'mined', 'ordered', 'pending_inclusion', 'reserved', 'sending', 'signed', 'venue_cancelled']), _negated=True), models.Q(('close_usdc__isnull', False), ('position__isnull', False)), _connector='OR'), name='ck_tx_intents_close_size'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['expired', 'filled', 'final_cancelled', 'final_reverted', 'held', 'lapsed', 'lost_nonce', 'mined', 'no_op', 'ordered', 'pending', 'pending_inclusion', 'rejected', 'reserved', 'sending', 'signed', 'simulated', 'venue_cancelled'])), name='ck_tx_intents_state'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['filled', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'mined', 'ordered', 'pending_inclusion', 'reserved', 'sending', 'signed', 'venue_cancelled']), _negated=True), models.Q(('mode', 'LIVE'), ('mode__isnull', False), ('nonce__isnull', True), ('road', 'gateway'), ('trader__isnull', False), ('wallet__isnull', False)), models.Q(('calldata__isnull', False), ('gas_limit__isnull', False), ('mode', 'LIVE'), ('mode__isnull', False), ('nonce__isnull', False), ('road__in', ['', 'onchain']), ('trader__isnull', False), ('value_wei__isnull', False), ('wallet__isnull', False)), _connector='OR'), name='ck_tx_intents_sent_owns_slot'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['filled', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'mined', 'ordered', 'pending_inclusion', 'reserved', 'sending', 'signed', 'venue_cancelled']), ('nonce__isnull', True), _connector='OR'), name='ck_tx_intents_slot_only_when_sent'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(('road__in', ['', 'gateway', 'onchain'])), name='ck_tx_intents_road'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'lapsed'), _negated=True), ('road', 'gateway'), _connector='OR'), name='ck_tx_intents_lapsed_by_gateway'),
        ),
        migrations.AddConstraint(
            model_name='txintent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['expired', 'final_cancelled', 'final_reverted', 'lapsed', 'lost_nonce', 'no_op', 'rejected', 'simulated']), _negated=True), ('settled_at__isnull', False), _connector='OR'), name='ck_tx_intents_terminal_is_settled'),
        ),
        migrations.AddField(
            model_name='venuemessage',
            name='intent',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='message', to='execution_app.txintent'),
        ),
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.UniqueConstraint(fields=('signer', 'nonce'), name='uq_venue_messages_nonce'),
        ),
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.CheckConstraint(condition=models.Q(('nonce__regex', '^0x[0-9a-f]{64}$'), ('signer__regex', '^0x[0-9a-fA-F]{40}$')), name='ck_venue_messages_nonce'),
        ),
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.CheckConstraint(condition=models.Q(('deadline_ms__gte', 1000000000000), ('deadline_ms__lt', 10000000000000)), name='ck_venue_messages_deadline'),
        ),
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.CheckConstraint(condition=models.Q(('posted_at__isnull', True), models.Q(('leased_at__isnull', False), ('posted_at__lte', models.F('last_posted_at'))), _connector='OR'), name='ck_venue_messages_leased_first'),
        ),
        migrations.AddConstraint(
            model_name='venuemessage',
            constraint=models.CheckConstraint(condition=models.Q(('outcome__in', ['accepted', 'already_known', 'insufficient_funds', 'invalid_permanent', 'nonce_too_high', 'nonce_too_low', 'pool_full', 'replacement_underpriced', 'rpc_fault', 'underpriced', 'unknown', 'unoffered'])), name='ck_venue_messages_outcome'),
        ),
    
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
