"""Peak memory does not grow with the model or with its largest tensor."""

import json

import pytest

from tests.model_ops.recovery import models, plain


def peak(folder, **sizes):
    base, diff = plain.write_pair(folder, **sizes)
    done = models.run_cli("recover", "--path_raw", base, "--path_diff", diff, "--path_tuned", folder / "out",
                          "--max-shard-size", "16MB", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["peak_rss_bytes"]


SMALL = {"vocab": 16000, "hidden": 512, "layers": 8}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return peak(tmp_path_factory.mktemp("small"), **SMALL)


@pytest.mark.parametrize("growth", [{"layers": 48}, {"vocab": 64000}])
def test_peak_memory_of_a_larger_model_is_that_of_a_smaller(tmp_path, small, growth):
    large = peak(tmp_path, **{**SMALL, **growth})
    assert large < small * 1.1
    assert large < 700e6
