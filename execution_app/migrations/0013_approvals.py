"""One person's word for one held close, which nobody can give but for what is held, nor change while it counts."""

from django.db import migrations, models

FORWARDS = """
CREATE FUNCTION vanta_guard_approval() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.approved_at IS NOT NULL OR NEW.approved_by <> '' THEN
            PERFORM public.vanta_say_no('an intent starts unapproved');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.approved_at, NEW.approved_by) IS NOT DISTINCT FROM (OLD.approved_at, OLD.approved_by) THEN
        RETURN NEW;
    END IF;
    IF OLD.action <> 'close' THEN
        PERFORM public.vanta_say_no(format('intent %s: an open is never approved', OLD.id));
    END IF;
    IF OLD.state <> 'held' OR NEW.state <> 'held' THEN
        PERFORM public.vanta_say_no(format('intent %s: only what is held is approved', OLD.id));
    END IF;
    IF NEW.approved_at IS NULL THEN
        PERFORM public.vanta_say_no(format('intent %s: an approval is not taken back, it runs out', OLD.id));
    END IF;
    -- As in gate/approval.py.
    IF OLD.approved_at > clock_timestamp() - interval '300 seconds' THEN
        PERFORM public.vanta_say_no(format('intent %s is approved already', OLD.id));
    END IF;
    -- Whatever was written, it counts from now.
    NEW.approved_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER guard_approval BEFORE INSERT OR UPDATE ON tx_intents FOR EACH ROW EXECUTE FUNCTION vanta_guard_approval();
"""
BACKWARDS = "DROP TRIGGER guard_approval ON tx_intents; DROP FUNCTION vanta_guard_approval();"


class Migration(migrations.Migration):
    dependencies = [("execution_app", "0012_more_guards")]
    operations = [
        migrations.AddField("txintent", "approved_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("txintent", "approved_by", models.CharField(blank=True, db_default="", default="", max_length=150)),
        migrations.AddConstraint(
            "txintent",
            models.CheckConstraint(
                condition=models.Q(("approved_at__isnull", True), ("approved_by", ""))
                | (models.Q(("action", "close"), ("approved_at__isnull", False)) & ~models.Q(("approved_by", ""))),
                name="ck_tx_intents_approval",
            ),
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
