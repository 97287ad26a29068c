"""What a sender added to an old signal may leave, once it is archived; the rest of a signal never changes, nor goes."""

from django.db import migrations

GUARD = """
CREATE OR REPLACE FUNCTION vanta_guard_signal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    free text[] := ARRAY['decided_at', 'decision', 'reasons'];
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'signals are kept' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    %s
    IF to_jsonb(NEW) - free IS DISTINCT FROM to_jsonb(OLD) - free THEN
        RAISE EXCEPTION 'signal %%: its content never changes', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.decided_at IS NOT NULL AND (NEW.decided_at, NEW.decision, NEW.reasons) IS DISTINCT FROM (OLD.decided_at, OLD.decision, OLD.reasons) THEN
        RAISE EXCEPTION 'signal %%: it is decided', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
"""
ARCHIVED = """IF OLD.decided_at IS NOT NULL AND NEW.meta = '{}' AND public.vanta_is_archived('signals', OLD.received_at, OLD.id) THEN
        free := free || ARRAY['meta'];
    END IF;"""


class Migration(migrations.Migration):
    dependencies = [("signals_app", "0006_watched_levels"), ("execution_app", "0028_archives")]
    operations = [migrations.RunSQL(GUARD % ARCHIVED, GUARD % "")]
