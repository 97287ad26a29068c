"""Triggers behind the state machine: what Python must not do, plain SQL cannot either."""

from django.db import migrations

MOVES = {
    "pending": ["held", "reserved", "rejected", "simulated", "expired", "no_op"],
    "held": ["reserved", "rejected", "expired", "no_op"],
    "reserved": ["signed"],
    "signed": ["sending", "mined", "lost_nonce"],
    "sending": ["pending_inclusion", "mined", "lost_nonce"],
    "pending_inclusion": ["mined", "lost_nonce"],
    "mined": ["pending_inclusion", "ordered", "final_reverted", "final_cancelled"],
    "ordered": ["pending_inclusion", "filled", "venue_cancelled"],
    "filled": ["pending_inclusion", "ordered"],
    "venue_cancelled": ["pending_inclusion", "ordered"],
}

FORWARDS = """
CREATE FUNCTION vanta_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION vanta_guard_intent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state NOT IN ('pending', 'rejected') THEN
            RAISE EXCEPTION 'an intent starts pending or rejected, not %', NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state IS DISTINCT FROM OLD.state THEN
        IF OLD.settled_at IS NOT NULL THEN
            RAISE EXCEPTION 'intent % is settled in % and cannot move to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF NOT EXISTS (SELECT 1 FROM intent_moves WHERE from_state = OLD.state AND to_state = NEW.state) THEN
            RAISE EXCEPTION 'intent % cannot move from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    IF OLD.settled_at IS NOT NULL AND NEW.settled_at IS DISTINCT FROM OLD.settled_at THEN
        RAISE EXCEPTION 'intent % is settled', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.intent_key <> OLD.intent_key
        OR (OLD.mode IS NOT NULL AND NEW.mode IS DISTINCT FROM OLD.mode)
        OR (OLD.nonce IS NOT NULL AND (NEW.nonce, NEW.wallet_id, NEW.to_address, NEW.calldata, NEW.value_wei, NEW.gas_limit, NEW.position_id, NEW.close_usdc)
            IS DISTINCT FROM (OLD.nonce, OLD.wallet_id, OLD.to_address, OLD.calldata, OLD.value_wei, OLD.gas_limit, OLD.position_id, OLD.close_usdc)) THEN
        RAISE EXCEPTION 'intent % owns its key, mode, slot and order for life', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_send() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.intent_id, NEW.attempt, NEW.kind, NEW.tx_hash, NEW.raw, NEW.max_fee_wei, NEW.tip_wei, NEW.signed_at)
        IS DISTINCT FROM (OLD.intent_id, OLD.attempt, OLD.kind, OLD.tx_hash, OLD.raw, OLD.max_fee_wei, OLD.tip_wei, OLD.signed_at) THEN
        RAISE EXCEPTION 'send %: signed bytes never change', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_wallet() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.next_nonce < OLD.next_nonce THEN
        RAISE EXCEPTION 'wallet %: next_nonce never steps back (% to %)', OLD.id, OLD.next_nonce, NEW.next_nonce
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (NEW.address, NEW.chain_id, NEW.trader_id) IS DISTINCT FROM (OLD.address, OLD.chain_id, OLD.trader_id) THEN
        RAISE EXCEPTION 'wallet %: address, chain and trader never change', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_fill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.settled_at IS NOT NULL THEN
        RAISE EXCEPTION 'fill % is settled', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_intent BEFORE INSERT OR UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_intent();
CREATE TRIGGER keep_intent BEFORE DELETE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_refuse('intents are kept');
CREATE TRIGGER guard_send BEFORE UPDATE ON tx_sends FOR EACH ROW EXECUTE FUNCTION vanta_guard_send();
CREATE TRIGGER keep_send BEFORE DELETE ON tx_sends FOR EACH ROW EXECUTE FUNCTION vanta_refuse('signed bytes are kept');
CREATE TRIGGER keep_transition BEFORE UPDATE OR DELETE ON intent_transitions FOR EACH ROW EXECUTE FUNCTION vanta_refuse('history is append-only');
CREATE TRIGGER guard_wallet BEFORE UPDATE ON wallets FOR EACH ROW EXECUTE FUNCTION vanta_guard_wallet();
CREATE TRIGGER guard_fill BEFORE UPDATE OR DELETE ON fills FOR EACH ROW EXECUTE FUNCTION vanta_guard_fill();
INSERT INTO control (id, epoch) VALUES (1, 1);
"""

BACKWARDS = """
DELETE FROM control;
DROP TRIGGER guard_fill ON fills;
DROP TRIGGER guard_wallet ON wallets;
DROP TRIGGER keep_transition ON intent_transitions;
DROP TRIGGER keep_send ON tx_sends;
DROP TRIGGER guard_send ON tx_sends;
DROP TRIGGER keep_intent ON tx_intents;
DROP TRIGGER guard_intent ON tx_intents;
DROP FUNCTION vanta_guard_fill();
DROP FUNCTION vanta_guard_wallet();
DROP FUNCTION vanta_guard_send();
DROP FUNCTION vanta_guard_intent();
DROP FUNCTION vanta_refuse();
"""


def fill_moves(apps, schema_editor):
    move = apps.get_model("execution_app", "IntentMove")
    move.objects.using(schema_editor.connection.alias).bulk_create(move(from_state=old, to_state=new) for old, news in MOVES.items() for new in news)


def empty_moves(apps, schema_editor):
    apps.get_model("execution_app", "IntentMove").objects.using(schema_editor.connection.alias).all().delete()


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0001_start")]
    operations = [migrations.RunPython(fill_moves, empty_moves), migrations.RunSQL(FORWARDS, BACKWARDS)]
