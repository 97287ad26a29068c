"""Faults on purpose, against a running stack: each drill is a command that passes or says what failed."""
