"""The attacks' one fixture."""

from tests.attacks.kit import world

__all__ = ["world"]
