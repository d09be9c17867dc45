"""The attacks' one fixture."""

import pytest

pytest.register_assert_rewrite("tests.attacks.kit")

from tests.attacks.kit import world  # noqa: E402

__all__ = ["world"]
