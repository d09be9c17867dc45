"""The fixture shared by the attacks."""

from tests.attacks.kit import world

__all__ = ["world"]
