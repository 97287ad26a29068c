"""A trader's ways to a venue, each behind the interface of `venues/interface.py`; what they ask for goes the engine's road."""
