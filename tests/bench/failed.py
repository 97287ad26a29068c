"""How the bench fails."""


class BenchError(Exception):
    """What was measured is not what should have happened: lost, doubled, out of order, or standing still."""
