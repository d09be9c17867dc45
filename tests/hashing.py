"""A fast password hasher for tests that try many passwords: the real one with a single round."""

from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickHasher(PBKDF2PasswordHasher):
    """PBKDF2 with one round instead of more than a million."""

    iterations = 1
