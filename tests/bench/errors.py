"""The one way a benchmark ends early."""


class BenchError(Exception):
    """One sentence for the person: what, why, what to do."""
