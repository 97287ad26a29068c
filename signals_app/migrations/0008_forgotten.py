"""What a signal says never changes, but for whose it is once nobody may be able to tell any more."""

from importlib import import_module

from django.db import migrations

let_through = import_module("execution_app.migrations.0030_people").let_through
CONDITION = (
    "TG_OP = 'UPDATE' AND public.vanta_forgets(OLD.tg_user_id, NEW.tg_user_id)"
    " AND to_jsonb(NEW) - ARRAY['tg_user_id', 'meta'] = to_jsonb(OLD) - ARRAY['tg_user_id', 'meta']"
)


class Migration(migrations.Migration):
    dependencies = [("signals_app", "0007_archived_meta"), ("execution_app", "0030_people")]
    operations = [let_through("vanta_guard_signal", CONDITION)]
