"""The manifest's bytes are those of `json.dumps` with an indent of one."""

import json

import pytest

from model_ops.recovery.planning.manifest import build_manifest, indented

VALUES = [
    {}, [], (), {"a": {}}, {"a": [], "b": [[]]}, [1, -2, 2**70, 0.1, -0.0, 1e300, 5e-324, 1e22, 3.0],
    {"é\u2028\"\\": "\x00\ud800 café", "t": True, "f": False, "n": None},
    {"a": [{"b": (1, [2, {"c": None}])}, "x"], "d": {"e": {"f": {"g": [True, False]}}}},
    [float("inf"), float("-inf")], "text", 1, None,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_indented_json_is_that_of_the_standard_library(value):
    assert indented(value) == json.dumps(value, indent=1)


def test_manifest_names_engine_and_facts():
    made = build_manifest({"files": [], "tensors": {"a": {"min": 0.5}}})
    assert json.loads(made)["tensors"] == {"a": {"min": 0.5}}
    assert made == (json.dumps(json.loads(made), indent=1) + "\n").encode()
