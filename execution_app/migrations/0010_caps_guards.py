"""Caps are history, what is at stake is logged by the database itself, and what is open already counts."""

from django.db import migrations

FORWARDS = """
CREATE FUNCTION vanta_guard_cap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.lifted_at IS NOT NULL THEN
            RAISE EXCEPTION 'a cap starts active' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.lifted_at IS NOT NULL OR NEW.lifted_at IS NULL
        OR (NEW.id, NEW.scope, NEW.scope_value, NEW.name, NEW.value, NEW.set_by, NEW.reason, NEW.set_at)
        IS DISTINCT FROM (OLD.id, OLD.scope, OLD.scope_value, OLD.name, OLD.value, OLD.set_by, OLD.reason, OLD.set_at) THEN
        RAISE EXCEPTION 'cap %: a cap is lifted once and never changed', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- One at a time, so that the log's total is exact; whoever asked the caps before has the lock already.
        PERFORM pg_advisory_xact_lock(1919513451);
        RETURN NEW;
    END IF;
    IF OLD.state = 'released' THEN
        RAISE EXCEPTION 'reservation % is released', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (NEW.id, NEW.intent_id, NEW.trader_id, NEW.source, NEW.symbol, NEW.mode, NEW.asked_usdc, NEW.reserved_at)
        IS DISTINCT FROM (OLD.id, OLD.intent_id, OLD.trader_id, OLD.source, OLD.symbol, OLD.mode, OLD.asked_usdc, OLD.reserved_at) THEN
        RAISE EXCEPTION 'reservation % belongs to its order for life', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_log_risk() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before_usdc numeric := 0;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        before_usdc := OLD.notional_usdc;
    END IF;
    INSERT INTO risk_log (reservation_id, mode, state, change_usdc, notional_usdc, total_usdc)
    SELECT NEW.id, NEW.mode, NEW.state, NEW.notional_usdc - before_usdc, NEW.notional_usdc,
        COALESCE(SUM(r.notional_usdc), 0)
    FROM risk_reservations r WHERE r.mode = NEW.mode AND r.released_at IS NULL;
    RETURN NULL;
END $$;

UPDATE tx_intents SET source = split_part(intent_key, ':', 2) WHERE intent_key LIKE 'sig:%:%';

CREATE TRIGGER guard_cap BEFORE INSERT OR UPDATE ON caps FOR EACH ROW EXECUTE FUNCTION vanta_guard_cap();
CREATE TRIGGER keep_cap BEFORE DELETE ON caps FOR EACH ROW EXECUTE FUNCTION vanta_refuse('caps are kept');
CREATE TRIGGER guard_reservation BEFORE INSERT OR UPDATE ON risk_reservations FOR EACH ROW EXECUTE FUNCTION vanta_guard_reservation();
CREATE TRIGGER keep_reservation BEFORE DELETE ON risk_reservations FOR EACH ROW EXECUTE FUNCTION vanta_refuse('reservations are kept');
CREATE TRIGGER log_risk AFTER INSERT OR UPDATE ON risk_reservations FOR EACH ROW EXECUTE FUNCTION vanta_log_risk();
CREATE TRIGGER keep_risk_log BEFORE UPDATE OR DELETE ON risk_log FOR EACH ROW EXECUTE FUNCTION vanta_refuse('the log is append-only');
CREATE TRIGGER keep_source BEFORE UPDATE OF source ON tx_intents FOR EACH ROW
    WHEN (NEW.source IS DISTINCT FROM OLD.source) EXECUTE FUNCTION vanta_refuse('who asked does not change');

-- Orders and positions from before there were reservations.
INSERT INTO risk_reservations (intent_id, trader_id, source, symbol, mode, state, asked_usdc, notional_usdc, reserved_at)
SELECT i.id, i.trader_id, i.source, i.symbol, i.mode,
    CASE WHEN p.id IS NULL THEN 'open' ELSE 'exposed' END,
    i.collateral_usdc * i.leverage_x,
    CASE WHEN p.state = 'open' AND p.collateral_usdc > 0 THEN p.collateral_usdc * p.leverage_x ELSE i.collateral_usdc * i.leverage_x END,
    i.updated_at
FROM tx_intents i
LEFT JOIN fills f ON f.intent_id = i.id
LEFT JOIN positions p ON p.id = f.position_id
WHERE i.action = 'open' AND (
    i.state IN ('reserved', 'signed', 'sending', 'pending_inclusion', 'mined', 'ordered')
    OR (i.state = 'venue_cancelled' AND i.settled_at IS NULL)
    OR (i.state IN ('filled', 'simulated') AND (p.state = 'open' OR (p.settled_at IS NULL AND p.mode = 'LIVE')))
)
ORDER BY i.id;
"""

BACKWARDS = """
DROP TRIGGER keep_source ON tx_intents;
DROP TRIGGER keep_risk_log ON risk_log;
DROP TRIGGER log_risk ON risk_reservations;
DROP TRIGGER keep_reservation ON risk_reservations;
DROP TRIGGER guard_reservation ON risk_reservations;
DROP TRIGGER keep_cap ON caps;
DROP TRIGGER guard_cap ON caps;
DROP FUNCTION vanta_log_risk();
DROP FUNCTION vanta_guard_reservation();
DROP FUNCTION vanta_guard_cap();
DELETE FROM risk_log;
DELETE FROM risk_reservations;
"""


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0009_caps")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
