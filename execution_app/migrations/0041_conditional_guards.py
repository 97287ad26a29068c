"""The guards of intents and sends are asked where they could say no, and what is at stake is summed once a statement.

Every move of an intent called seven functions, six of which look at what a move does not change. Each condition below
lets its function be called wherever it would raise or change anything; what the functions say is as it was. The log of
what is at stake has the same rows: a row's trigger ran after the whole statement, too, and saw the same total.
"""

from django.db import migrations

LOG_BY_STATEMENT = """
CREATE OR REPLACE FUNCTION vanta_log_risk() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    named varchar;
    total_usdc numeric;
BEGIN
    FOR named IN SELECT DISTINCT mode FROM staked LOOP
        SELECT coalesce(sum(r.notional_usdc), 0) INTO total_usdc
        FROM public.risk_reservations AS r WHERE r.mode = named AND r.released_at IS NULL;
        IF TG_OP = 'INSERT' THEN
            INSERT INTO public.risk_log (reservation_id, mode, state, change_usdc, notional_usdc, total_usdc)
            SELECT id, mode, state, notional_usdc, notional_usdc, total_usdc
            FROM staked WHERE mode = named ORDER BY id;
        ELSE
            INSERT INTO public.risk_log (reservation_id, mode, state, change_usdc, notional_usdc, total_usdc)
            SELECT s.id, s.mode, s.state, s.notional_usdc - before.notional_usdc, s.notional_usdc, total_usdc
            FROM staked AS s JOIN before ON before.id = s.id WHERE s.mode = named ORDER BY s.id;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
"""
LOG_BY_ROW = """
CREATE OR REPLACE FUNCTION vanta_log_risk() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
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
"""
FORWARDS = """
DROP TRIGGER guard_approval ON tx_intents;
CREATE TRIGGER guard_approval BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN ((NEW.approved_at, NEW.approved_by) IS DISTINCT FROM (OLD.approved_at, OLD.approved_by))
    EXECUTE FUNCTION vanta_guard_approval();
CREATE TRIGGER guard_approval_new BEFORE INSERT ON tx_intents FOR EACH ROW
    WHEN (NEW.approved_at IS NOT NULL OR NEW.approved_by <> '') EXECUTE FUNCTION vanta_guard_approval();

DROP TRIGGER guard_cost ON tx_intents;
CREATE TRIGGER guard_cost BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN ((NEW.max_cost_wei, NEW.l1_fee_wei) IS DISTINCT FROM (OLD.max_cost_wei, OLD.l1_fee_wei))
    EXECUTE FUNCTION vanta_guard_cost();

DROP TRIGGER guard_only_position ON tx_intents;
CREATE TRIGGER guard_only_position BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN ((NEW.only_position, NEW.position_id, NEW.trailing_stop_pct, NEW.break_even_pct, NEW.time_stop_s)
        IS DISTINCT FROM (OLD.only_position, OLD.position_id, OLD.trailing_stop_pct, OLD.break_even_pct, OLD.time_stop_s))
    EXECUTE FUNCTION vanta_guard_only_position();

DROP TRIGGER guard_request ON tx_intents;
CREATE TRIGGER guard_request BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN ((NEW.id, NEW.tg_user_id, NEW.action, NEW.symbol, NEW.is_long, NEW.collateral_usdc, NEW.leverage_x, NEW.slippage_pct,
        NEW.reduce_pct, NEW.take_profit, NEW.stop_loss, NEW.trader_id, NEW.reduce_usdc)
        IS DISTINCT FROM (OLD.id, OLD.tg_user_id, OLD.action, OLD.symbol, OLD.is_long, OLD.collateral_usdc, OLD.leverage_x,
        OLD.slippage_pct, OLD.reduce_pct, OLD.take_profit, OLD.stop_loss, OLD.trader_id, OLD.reduce_usdc))
    EXECUTE FUNCTION vanta_guard_request();

DROP TRIGGER guard_resting ON tx_intents;
CREATE TRIGGER guard_resting BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN ((NEW.order_type, NEW.limit_price, NEW.target_id, NEW.new_slippage_pct, NEW.margin_usdc)
        IS DISTINCT FROM (OLD.order_type, OLD.limit_price, OLD.target_id, OLD.new_slippage_pct, OLD.margin_usdc))
    EXECUTE FUNCTION vanta_guard_resting();
CREATE TRIGGER guard_resting_new BEFORE INSERT ON tx_intents FOR EACH ROW
    WHEN (NEW.target_id IS NOT NULL) EXECUTE FUNCTION vanta_guard_resting();

DROP TRIGGER guard_road ON tx_intents;
CREATE TRIGGER guard_road BEFORE UPDATE ON tx_intents FOR EACH ROW
    WHEN (OLD.state NOT IN ('pending', 'held')
        AND (NEW.road, NEW.wallet_id, NEW.position_id, NEW.close_usdc, NEW.reduce_usdc, NEW.wanted_price, NEW.nonce)
        IS DISTINCT FROM (OLD.road, OLD.wallet_id, OLD.position_id, OLD.close_usdc, OLD.reduce_usdc, OLD.wanted_price, OLD.nonce))
    EXECUTE FUNCTION vanta_guard_road();

DROP TRIGGER guard_send ON tx_sends;
CREATE TRIGGER guard_send BEFORE UPDATE ON tx_sends FOR EACH ROW
    WHEN ((NEW.intent_id, NEW.attempt, NEW.kind, NEW.tx_hash, NEW.raw, NEW.max_fee_wei, NEW.tip_wei, NEW.signed_at)
        IS DISTINCT FROM (OLD.intent_id, OLD.attempt, OLD.kind, OLD.tx_hash, OLD.raw, OLD.max_fee_wei, OLD.tip_wei, OLD.signed_at))
    EXECUTE FUNCTION vanta_guard_send();
DROP TRIGGER guard_offer ON tx_sends;
CREATE TRIGGER guard_offer BEFORE UPDATE ON tx_sends FOR EACH ROW
    WHEN ((NEW.outcome = 'unoffered' AND OLD.outcome <> 'unoffered') OR NEW.id <> OLD.id OR NEW.offers < OLD.offers
        OR (OLD.leased_at IS NOT NULL AND NEW.leased_at IS NULL)
        OR (OLD.last_offered_at IS NOT NULL AND NEW.last_offered_at IS NULL)
        OR (OLD.offered_at IS NOT NULL AND NEW.offered_at IS DISTINCT FROM OLD.offered_at)
        OR (OLD.held_at IS NOT NULL AND NEW.held_at IS DISTINCT FROM OLD.held_at)
        OR (OLD.stuck_at IS NOT NULL AND NEW.stuck_at IS DISTINCT FROM OLD.stuck_at))
    EXECUTE FUNCTION vanta_guard_offer();

DROP TRIGGER log_risk ON risk_reservations;
""" + LOG_BY_STATEMENT + """
CREATE TRIGGER log_risk AFTER INSERT ON risk_reservations REFERENCING NEW TABLE AS staked
    FOR EACH STATEMENT EXECUTE FUNCTION vanta_log_risk();
CREATE TRIGGER log_risk_changed AFTER UPDATE ON risk_reservations REFERENCING OLD TABLE AS before NEW TABLE AS staked
    FOR EACH STATEMENT EXECUTE FUNCTION vanta_log_risk();
"""
BACKWARDS = """
DROP TRIGGER log_risk_changed ON risk_reservations;
DROP TRIGGER log_risk ON risk_reservations;
""" + LOG_BY_ROW + """
CREATE TRIGGER log_risk AFTER INSERT OR UPDATE ON risk_reservations FOR EACH ROW EXECUTE FUNCTION vanta_log_risk();

DROP TRIGGER guard_offer ON tx_sends;
CREATE TRIGGER guard_offer BEFORE UPDATE ON tx_sends FOR EACH ROW EXECUTE FUNCTION vanta_guard_offer();
DROP TRIGGER guard_send ON tx_sends;
CREATE TRIGGER guard_send BEFORE UPDATE ON tx_sends FOR EACH ROW EXECUTE FUNCTION vanta_guard_send();
DROP TRIGGER guard_road ON tx_intents;
CREATE TRIGGER guard_road BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_road();
DROP TRIGGER guard_resting_new ON tx_intents;
DROP TRIGGER guard_resting ON tx_intents;
CREATE TRIGGER guard_resting BEFORE INSERT OR UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_resting();
DROP TRIGGER guard_request ON tx_intents;
CREATE TRIGGER guard_request BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_request();
DROP TRIGGER guard_only_position ON tx_intents;
CREATE TRIGGER guard_only_position BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_only_position();
DROP TRIGGER guard_cost ON tx_intents;
CREATE TRIGGER guard_cost BEFORE UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_cost();
DROP TRIGGER guard_approval_new ON tx_intents;
DROP TRIGGER guard_approval ON tx_intents;
CREATE TRIGGER guard_approval BEFORE INSERT OR UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_approval();
"""


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0040_rare_rows")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
