"""Triggers for the other columns of state: what is final stays, what was signed or read from the chain stays true."""

from django.db import migrations

# Every row of these is kept for good; TRUNCATE fires no row trigger, so it needs one of its own.
KEPT = ["traders", "wallets", "chains", "control", "mode_changes", "tx_receipts", "positions"]
WHOLE = [*KEPT, "caps", "risk_reservations", "risk_log", "tx_intents", "tx_sends", "intent_transitions", "venue_orders", "fills"]
OLD_GUARDS = ["vanta_refuse", "vanta_guard_intent", "vanta_guard_send", "vanta_guard_wallet", "vanta_guard_fill",
              "vanta_guard_cap", "vanta_guard_reservation", "vanta_log_risk"]
SAFE_PATH = "pg_catalog, public, pg_temp"

FUNCTIONS = """
CREATE FUNCTION vanta_say_no(words text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', words USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION vanta_guard_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tg_user_id, NEW.action, NEW.symbol, NEW.is_long, NEW.collateral_usdc, NEW.leverage_x, NEW.slippage_pct,
        NEW.reduce_pct, NEW.take_profit, NEW.stop_loss, NEW.trader_id)
        IS DISTINCT FROM (OLD.id, OLD.tg_user_id, OLD.action, OLD.symbol, OLD.is_long, OLD.collateral_usdc, OLD.leverage_x,
        OLD.slippage_pct, OLD.reduce_pct, OLD.take_profit, OLD.stop_loss, OLD.trader_id) THEN
        PERFORM public.vanta_say_no(format('intent %s: what was asked for never changes', OLD.id));
    END IF;
    -- Of an amount that several positions share, each intent gets its part before it takes a nonce.
    IF OLD.nonce IS NOT NULL AND NEW.reduce_usdc IS DISTINCT FROM OLD.reduce_usdc THEN
        PERFORM public.vanta_say_no(format('intent %s: its part never changes', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_offer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.outcome = 'unoffered' AND OLD.outcome <> 'unoffered' THEN
        PERFORM public.vanta_say_no(format('send %s was offered and cannot become unoffered', OLD.id));
    END IF;
    IF NEW.id <> OLD.id OR NEW.offers < OLD.offers
        OR (OLD.leased_at IS NOT NULL AND NEW.leased_at IS NULL)
        OR (OLD.last_offered_at IS NOT NULL AND NEW.last_offered_at IS NULL)
        OR (OLD.offered_at IS NOT NULL AND NEW.offered_at IS DISTINCT FROM OLD.offered_at)
        OR (OLD.held_at IS NOT NULL AND NEW.held_at IS DISTINCT FROM OLD.held_at)
        OR (OLD.stuck_at IS NOT NULL AND NEW.stuck_at IS DISTINCT FROM OLD.stuck_at) THEN
        PERFORM public.vanta_say_no(format('send %s: what happened to it stays told', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_receipt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.send_id, NEW.intent_id) IS DISTINCT FROM (OLD.id, OLD.send_id, OLD.intent_id) THEN
        PERFORM public.vanta_say_no(format('receipt %s belongs to its send for life', OLD.id));
    END IF;
    IF NEW IS DISTINCT FROM OLD
        AND EXISTS (SELECT 1 FROM public.tx_intents WHERE id = OLD.intent_id AND settled_at IS NOT NULL) THEN
        PERFORM public.vanta_say_no(format('receipt %s is final', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM public.tx_intents WHERE id = OLD.intent_id AND settled_at IS NOT NULL)
        AND (TG_OP = 'DELETE' OR NEW IS DISTINCT FROM OLD) THEN
        PERFORM public.vanta_say_no(format('venue order %s is final', OLD.id));
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.state <> 'registered' THEN
            PERFORM public.vanta_say_no(format('venue order %s is %s: it is kept', OLD.id, OLD.state));
        END IF;
        RETURN OLD;
    END IF;
    IF (NEW.id, NEW.intent_id) IS DISTINCT FROM (OLD.id, OLD.intent_id) THEN
        PERFORM public.vanta_say_no(format('venue order %s belongs to its intent for life', OLD.id));
    END IF;
    IF NEW.state <> OLD.state AND 'registered' NOT IN (OLD.state, NEW.state) THEN
        PERFORM public.vanta_say_no(format('venue order %s cannot move from %s to %s', OLD.id, OLD.state, NEW.state));
    END IF;
    IF OLD.state <> 'registered' AND (NEW.venue, NEW.order_id) IS DISTINCT FROM (OLD.venue, OLD.order_id) THEN
        PERFORM public.vanta_say_no(format('venue order %s is %s under its number', OLD.id, OLD.state));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_position() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.trader_id, NEW.venue, NEW.symbol, NEW.pair_index, NEW.trade_index, NEW.opened_at, NEW.mode)
        IS DISTINCT FROM (OLD.id, OLD.trader_id, OLD.venue, OLD.symbol, OLD.pair_index, OLD.trade_index, OLD.opened_at, OLD.mode) THEN
        PERFORM public.vanta_say_no(format('position %s is the same trade for life', OLD.id));
    END IF;
    IF OLD.state = 'closed' AND OLD.ended_by = 'close' AND OLD.settled_at IS NOT NULL
        AND (NEW.state, NEW.ended_by) IS DISTINCT FROM (OLD.state, OLD.ended_by) THEN
        PERFORM public.vanta_say_no(format('position %s is closed for good and cannot become %s', OLD.id, NEW.state));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_fill_content() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) - 'settled_at' IS DISTINCT FROM to_jsonb(OLD) - 'settled_at' THEN
        PERFORM public.vanta_say_no(format('fill %s: what was executed never changes', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_restriction() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.lifted_at IS NOT NULL AND NEW IS DISTINCT FROM OLD THEN
        PERFORM public.vanta_say_no(format('restriction %s is lifted already', OLD.id));
    END IF;
    IF (NEW.id, NEW.kind, NEW.origin, NEW.reason, NEW.set_by, NEW.set_at)
        IS DISTINCT FROM (OLD.id, OLD.kind, OLD.origin, OLD.reason, OLD.set_by, OLD.set_at) THEN
        PERFORM public.vanta_say_no(format('restriction %s: who set what and why never changes', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_control() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch < OLD.epoch OR NEW.id <> OLD.id THEN
        PERFORM public.vanta_say_no(format('the epoch never steps back (%s to %s)', OLD.epoch, NEW.epoch));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_chain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.chain_id, NEW.genesis_hash, NEW.trading_address, NEW.first_seen_at)
        IS DISTINCT FROM (OLD.chain_id, OLD.genesis_hash, OLD.trading_address, OLD.first_seen_at) THEN
        PERFORM public.vanta_say_no(format('chain %s: what it is never changes', OLD.chain_id));
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_trader() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tg_user_id, NEW.address, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.tg_user_id, OLD.address, OLD.created_at) THEN
        PERFORM public.vanta_say_no(format('trader %s: id and address never change', OLD.id));
    END IF;
    RETURN NEW;
END $$;
"""
# table → function, the event, and the trigger's name; before those of 0002 or after, as the alphabet has it.
TRIGGERS = [
    ("tx_intents", "guard_request", "UPDATE", "vanta_guard_request"),
    ("tx_sends", "guard_offer", "UPDATE", "vanta_guard_offer"),
    ("tx_receipts", "guard_receipt", "UPDATE", "vanta_guard_receipt"),
    ("venue_orders", "guard_order", "UPDATE OR DELETE", "vanta_guard_order"),
    ("positions", "guard_position", "UPDATE", "vanta_guard_position"),
    ("fills", "guard_fill_content", "UPDATE", "vanta_guard_fill_content"),
    ("mode_changes", "guard_restriction", "UPDATE", "vanta_guard_restriction"),
    ("control", "guard_control", "UPDATE", "vanta_guard_control"),
    ("chains", "guard_chain", "UPDATE", "vanta_guard_chain"),
    ("traders", "guard_trader", "UPDATE", "vanta_guard_trader"),
]
NEW_GUARDS = ["vanta_say_no(text)", *(f"{function}()" for *_, function in TRIGGERS)]


def forwards() -> str:
    lines = [FUNCTIONS]
    lines += [
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}();"
        for table, name, event, function in TRIGGERS
    ]
    lines += [
        f"CREATE TRIGGER keep_row BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION vanta_refuse('its rows are kept');"
        for table in KEPT
    ]
    lines += [
        f"CREATE TRIGGER keep_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('its rows are kept');"
        for table in WHOLE
    ]
    # A temporary table named like one of ours, or a function of another schema, must not deceive a guard.
    guards = [*(f"{name}()" for name in OLD_GUARDS), *NEW_GUARDS]
    lines += [f"ALTER FUNCTION {guard} SET search_path = {SAFE_PATH};" for guard in guards]
    return "\n".join(lines)


def backwards() -> str:
    lines = [f"ALTER FUNCTION {name}() RESET search_path;" for name in OLD_GUARDS]
    lines += [f"DROP TRIGGER keep_whole ON {table};" for table in WHOLE]
    lines += [f"DROP TRIGGER keep_row ON {table};" for table in KEPT]
    lines += [f"DROP TRIGGER {name} ON {table};" for table, name, *_ in TRIGGERS]
    lines += [f"DROP FUNCTION {guard};" for guard in reversed(NEW_GUARDS)]
    return "\n".join(lines)


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0011_audit_log")]
    operations = [migrations.RunSQL(forwards(), backwards())]
