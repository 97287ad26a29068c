"""The letter box: a signal is stored once, then decided."""
