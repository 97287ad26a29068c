"""What was released for a position that turns out to be open is at stake again."""

from django.db import migrations

_GUARD = """
CREATE OR REPLACE FUNCTION vanta_guard_reservation() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- One at a time, so that the log's total is exact; whoever asked the caps before has the lock already.
        PERFORM pg_advisory_xact_lock(1919513451);
        RETURN NEW;
    END IF;
    %s
    IF (NEW.id, NEW.intent_id, NEW.trader_id, NEW.source, NEW.symbol, NEW.mode, NEW.asked_usdc, NEW.reserved_at)
        IS DISTINCT FROM (OLD.id, OLD.intent_id, OLD.trader_id, OLD.source, OLD.symbol, OLD.mode, OLD.asked_usdc, OLD.reserved_at) THEN
        RAISE EXCEPTION 'reservation %% belongs to its order for life', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
"""
FORWARDS = _GUARD % """IF OLD.state = 'released' THEN
        PERFORM pg_advisory_xact_lock(1919513451);
        IF NEW.state <> 'exposed' OR NOT EXISTS (
            SELECT 1 FROM public.fills AS fill JOIN public.positions AS held ON held.id = fill.position_id
            WHERE fill.intent_id = OLD.intent_id AND fill.action = 'open' AND held.state = 'open') THEN
            RAISE EXCEPTION 'reservation % is released', OLD.id USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;"""
BACKWARDS = _GUARD % """IF OLD.state = 'released' THEN
        RAISE EXCEPTION 'reservation % is released', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;"""


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0033_venue_endings")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
