from __future__ import annotations

from typing import Any

import pytest

from tests.bench.delivery_targets import judged


def figures(own: float = 0.8, cost: float = 5, p95: float = 199, errors: int = 0) -> dict[str, Any]:
    return {
        "throughput": {"own": {"of nginx alone": own}, "nginx": {"of nginx alone": 0.95}},
        "gate": {"milliseconds of processor": {"HEAD": cost}, "queries": {"HEAD": 3}},
        "slow clients": {"own": {"with 50 slow clients": {"p95": p95}}},
        "small files": {"own": {"errors": errors}},
    }


@pytest.mark.parametrize(
    ("found", "code"),
    [({}, 0), ({"own": 0.79}, 1), ({"cost": 5.01}, 1), ({"p95": 201}, 1), ({"errors": 1}, 1)],
)
def test_benchmark_fails_where_a_target_is_missed(
    found: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(figures(**found)) == code
    assert capsys.readouterr().out.count("missed: ") == code
