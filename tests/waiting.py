"""Wait for real processes. `pytest --log-cli-level=INFO` shows how long each wait took, and where."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

logger = logging.getLogger(__name__)
LOOK_EVERY = 0.05  # seconds


def wait_until(what: Callable[[], Any], sentence: str = "", *, seconds: float = 120) -> Any:
    """Return the first true answer; fail if there is none in time."""
    began = time.monotonic()
    while not (answer := what()):
        if time.monotonic() - began > seconds:
            pytest.fail(f"{sentence or 'what was waited for'}: not within {seconds} s")
        time.sleep(LOOK_EVERY)
    logger.info("waited %.1f s %s", time.monotonic() - began, sentence, stacklevel=2)
    return answer
