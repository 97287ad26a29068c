"""The venue's gateway in miniature, for rehearsals: the routes that its unmodified SDK calls, and the operator behind them.

It takes signed intents, submits them to the rehearsal contracts as the operator
and tells what became of them; `faults.py` is what can go wrong on purpose. What
it accepted it remembers as long as it runs, no longer.
"""
