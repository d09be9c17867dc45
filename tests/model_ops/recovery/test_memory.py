"""Peak memory does not grow with the model or with its largest tensor."""

import json

import pytest

from tests.model_ops.recovery import models, plain


def peak(folder, **sizes):
    base, diff = plain.write_pair(folder, **sizes)
    done = models.run_cli("recover", "--path_raw", base, "--path_diff", diff, "--path_tuned", folder / "out",
                          "--max-shard-size", "64MB", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = models.run_cli("plan", "--path_raw", base, "--path_diff", diff, "--json")
    return json.loads(done.stdout)["peak_rss_bytes"], json.loads(plan.stdout)["peak_memory"]


@pytest.mark.parametrize("growth", [{"layers": 12}, {"vocab": 64000}])
def test_peak_memory_of_a_larger_model_is_that_of_a_smaller(tmp_path, growth):
    small, _ = peak(tmp_path / "small", vocab=16000, hidden=1024, layers=6)
    large, _ = peak(tmp_path / "large", **{"vocab": 16000, "hidden": 1024, "layers": 6, **growth})
    assert large < small * 1.1
    assert large < 700e6
