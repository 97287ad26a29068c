"""What a remote signer has still to sign, and a way out for a slot that it never signed."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


FORWARDS = """
INSERT INTO intent_moves (from_state, to_state) VALUES ('reserved', 'lost_nonce');

CREATE FUNCTION vanta_guard_sign_request() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (SELECT 1 FROM public.tx_intents WHERE id = NEW.intent_id
                AND state IN ('reserved', 'signed', 'sending', 'pending_inclusion')) THEN
            PERFORM public.vanta_say_no(format('intent %s owns no slot that is still to be mined', NEW.intent_id));
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.intent_id, NEW.attempt, NEW.asked_at) IS DISTINCT FROM (OLD.id, OLD.intent_id, OLD.attempt, OLD.asked_at)
        OR (OLD.kind = 'cancel' AND NEW.kind <> 'cancel') THEN
        PERFORM public.vanta_say_no(format('sign request %s belongs to its attempt, and a cancel stays one', OLD.id));
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_sign_request BEFORE INSERT OR UPDATE ON sign_requests FOR EACH ROW EXECUTE FUNCTION vanta_guard_sign_request();
"""

BACKWARDS = """
DROP TRIGGER guard_sign_request ON sign_requests;
DROP FUNCTION vanta_guard_sign_request();
DELETE FROM intent_moves WHERE from_state = 'reserved' AND to_state = 'lost_nonce';
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0016_final_hash'),
    ]

    operations = [
        migrations.CreateModel(
            name='SignRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt', models.PositiveIntegerField()),
                ('kind', models.CharField(choices=[('exec', 'exec'), ('bump', 'bump'), ('cancel', 'cancel')], max_length=32)),
                ('max_fee_wei', models.DecimalField(decimal_places=0, max_digits=40)),
                ('tip_wei', models.DecimalField(decimal_places=0, max_digits=40)),
                ('asked_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('leased_at', models.DateTimeField(blank=True, null=True)),
                ('lease', models.UUIDField(blank=True, null=True)),
                ('tries', models.PositiveIntegerField(default=0)),
                ('next_try_at', models.DateTimeField(blank=True, null=True)),
                ('intent', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='sign_request', to='execution_app.txintent')),
            ],
            options={
                'db_table': 'sign_requests',
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['bump', 'cancel', 'exec'])), name='ck_sign_requests_kind'), models.CheckConstraint(condition=models.Q(('tip_wei__gte', 0), ('tip_wei__lte', models.F('max_fee_wei'))), name='ck_sign_requests_fee'), models.CheckConstraint(condition=models.Q(models.Q(('lease__isnull', True), ('leased_at__isnull', True)), models.Q(('lease__isnull', False), ('leased_at__isnull', False)), _connector='OR'), name='ck_sign_requests_lease')],
            },
        ),
        migrations.RunSQL(FORWARDS, BACKWARDS),
    ]
