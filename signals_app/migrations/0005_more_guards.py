"""A decision is whole or not there, a retired secret stays retired, and TRUNCATE takes nothing."""

from django.db import migrations

FORWARDS = """
CREATE FUNCTION vanta_guard_decision() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.decided_at IS NULL) <> (NEW.decision = '') THEN
        RAISE EXCEPTION 'signal %: a decision and its time come together', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION vanta_guard_secret() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'secrets of sources are kept' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NOT OLD.active AND (NEW.active, NEW.retired_at) IS DISTINCT FROM (OLD.active, OLD.retired_at) THEN
        RAISE EXCEPTION 'secret % is retired for good', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (NEW.id, NEW.source, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.source, OLD.created_at) THEN
        RAISE EXCEPTION 'secret % is of one source for life', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER FUNCTION vanta_guard_signal() SET search_path = pg_catalog, public, pg_temp;
CREATE TRIGGER guard_signal_decision BEFORE UPDATE ON signals FOR EACH ROW EXECUTE FUNCTION vanta_guard_decision();
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON signals FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('signals are kept');
CREATE TRIGGER guard_secret BEFORE UPDATE OR DELETE ON source_secrets FOR EACH ROW EXECUTE FUNCTION vanta_guard_secret();
CREATE TRIGGER keep_whole BEFORE TRUNCATE ON source_secrets FOR EACH STATEMENT EXECUTE FUNCTION vanta_refuse('secrets are kept');
"""

BACKWARDS = """
DROP TRIGGER keep_whole ON source_secrets;
DROP TRIGGER guard_secret ON source_secrets;
DROP TRIGGER keep_whole ON signals;
DROP TRIGGER guard_signal_decision ON signals;
ALTER FUNCTION vanta_guard_signal() RESET search_path;
DROP FUNCTION vanta_guard_secret();
DROP FUNCTION vanta_guard_decision();
"""


class Migration(migrations.Migration):
    dependencies = [("signals_app", "0004_api_tokens"), ("execution_app", "0002_guards")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
