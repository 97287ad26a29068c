"""Pseudonyms of people, and the one change of what never changes: an id that becomes its pseudonym."""

import django.db.models.functions.datetime
from django.db import migrations, models

# An id as Telegram gives them becomes a number that it cannot give: 52 bits are the most, pseudonyms begin at 2^62.
FORWARDS = """
CREATE FUNCTION vanta_forgets(was bigint, becomes bigint) RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT was BETWEEN 1 AND 4503599627370495 AND becomes >= 4611686018427387904
$$;
"""
BACKWARDS = "DROP FUNCTION vanta_forgets(bigint, bigint);"
# function → when its guard lets a row through, before it looks at anything else
LETS = {
    "vanta_guard_request": "public.vanta_forgets(OLD.tg_user_id, NEW.tg_user_id)"
    " AND to_jsonb(NEW) - 'tg_user_id' = to_jsonb(OLD) - 'tg_user_id'",
    "vanta_guard_trader": "public.vanta_forgets(OLD.tg_user_id, NEW.tg_user_id)"
    " AND to_jsonb(NEW) - ARRAY['tg_user_id', 'label', 'enabled'] = to_jsonb(OLD) - ARRAY['tg_user_id', 'label', 'enabled']",
    # Only a trader's value is a number.
    "vanta_guard_cap": "CASE WHEN TG_OP = 'UPDATE' AND NEW.scope = 'trader' AND OLD.scope = 'trader'"
    " THEN public.vanta_forgets(OLD.scope_value::bigint, NEW.scope_value::bigint)"
    " AND to_jsonb(NEW) - 'scope_value' = to_jsonb(OLD) - 'scope_value' ELSE false END",
}


def let_through(function: str, condition: str) -> migrations.RunSQL:
    """The guard as it is, with one exception before its first question; backwards takes it out again."""
    line = f"\nIF ({condition}) THEN RETURN NEW; END IF; -- a person is forgotten"
    change = """DO $do$ BEGIN EXECUTE regexp_replace(pg_get_functiondef('public.{function}()'::regprocedure),
        $was${was}$was$, $is${becomes}$is$); END $do$"""
    # The first BEGIN of the body, which nothing but a line's end follows.
    forwards = change.format(function=function, was=r"\nBEGIN\n", becomes=f"\nBEGIN{line}\n")
    backwards = change.format(function=function, was=r"\nIF [^\n]* -- a person is forgotten", becomes="")
    return migrations.RunSQL(forwards, backwards)


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0029_panel'),
    ]

    operations = [
        migrations.CreateModel(
            name='Person',
            fields=[
                ('tg_user_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('pseudonym', models.BigIntegerField(unique=True)),
                ('since', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'verbose_name_plural': 'people',
                'db_table': 'people',
                'constraints': [models.CheckConstraint(condition=models.Q(('tg_user_id__gt', 0), ('tg_user_id__lt', 4503599627370496)), name='ck_people_id'), models.CheckConstraint(condition=models.Q(('pseudonym__gte', 4611686018427387904)), name='ck_people_pseudonym')],
            },
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
        *(let_through(function, condition) for function, condition in LETS.items()),
    ]
