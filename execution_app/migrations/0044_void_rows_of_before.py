"""Rows that were void before void rows name their order: theirs is the one order like them that a reorg took back.

Else an exit that waits for such a trade to come again would end as one of a trade that was never opened. Where several
are like it none is named. A migration of its own: an update before the index of the one before it is built is refused.
"""

from django.db import migrations

FORWARDS = """
UPDATE positions AS void SET opened_by_id = alone.order_id FROM (
    SELECT held.id AS void_id, min(one.id) AS order_id FROM positions AS held
    JOIN tx_intents AS one ON one.trader_id = held.trader_id AND one.symbol = held.symbol AND one.action = 'open'
        AND one.is_long = held.is_long AND one.collateral_usdc = held.collateral_usdc AND one.leverage_x = held.leverage_x
    WHERE held.state = 'void' AND held.mode = 'LIVE' AND held.opened_by_id IS NULL
    AND EXISTS (SELECT FROM intent_transitions AS was WHERE was.intent_id = one.id AND was.from_state = 'filled')
    GROUP BY held.id HAVING count(*) = 1
) AS alone WHERE void.id = alone.void_id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('execution_app', '0043_void_rows'),
    ]

    operations = [
        migrations.RunSQL(FORWARDS, migrations.RunSQL.noop),
    ]
