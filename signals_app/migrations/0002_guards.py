"""A signal is stored once and decided once; its content never changes."""

from django.db import migrations

FORWARDS = """
CREATE FUNCTION vanta_guard_signal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'signals are kept' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF to_jsonb(NEW) - ARRAY['decided_at', 'decision', 'reasons'] IS DISTINCT FROM to_jsonb(OLD) - ARRAY['decided_at', 'decision', 'reasons'] THEN
        RAISE EXCEPTION 'signal %: its content never changes', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.decided_at IS NOT NULL AND (NEW.decided_at, NEW.decision, NEW.reasons) IS DISTINCT FROM (OLD.decided_at, OLD.decision, OLD.reasons) THEN
        RAISE EXCEPTION 'signal %: it is decided', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_signal BEFORE UPDATE OR DELETE ON signals FOR EACH ROW EXECUTE FUNCTION vanta_guard_signal();
"""

BACKWARDS = """
DROP TRIGGER guard_signal ON signals;
DROP FUNCTION vanta_guard_signal();
"""


class Migration(migrations.Migration):
    dependencies = [("signals_app", "0001_start")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
