"""The error that ends a benchmark early."""


class BenchError(Exception):
    """One sentence for the reader: what happened, why, and what to do."""
