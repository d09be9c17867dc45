"""Options are validated when they are created, and equal if they mean the same."""

from dataclasses import asdict

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.planning.options import Options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "sub"}, "The method 'sub' is not known; use one of add, xor."),
        ({"compat": "vicuna"}, "The compat tool 'vicuna' is not known; use one of weight_diff, fastchat."),
        ({"dtype": "float8"}, "The dtype 'float8' is not known; use one of float32, float16, bfloat16."),
        ({"resize_policy": "max"}, "The resize policy 'max' is not known; use mean, zero, skip, cut, error."),
        ({"max_shard_size": "0GB"}, "The size '0GB' is not understood; write it like 5GB, 2500MB or 200KB."),
        ({"max_shard_size": "51GB"}, "The shard size '51GB' is over 50GB, more than Hugging Face clients download."),
        ({"expected_sum": float("inf")}, "The expected sum inf is not a finite number."),
        ({"expected_sum": 1.0, "sum_tolerance": -1.0}, "The tolerance -1.0 of the sum is not a number from 0 on."),
        ({"expected_sum": 1.0, "sum_tolerance": float("nan")}, "The tolerance nan of the sum is not a number from 0 on."),
        ({"sum_tolerance": 1.0}, "--sum-tolerance has no effect without --expected-sum; give both."),
        ({"method": "xor", "dtype": "float16"}, "With --method xor files come back as they were; leave --dtype out."),
        ({"method": "xor", "expected_sum": 1.0}, "With --method xor no numbers are read; leave --expected-sum out."),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(Refusal) as caught:
        Options(**options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, {}),
        ({"dtype": "float32", "max_shard_size": "5000MB", "compat": "weight_diff"}, {}),
        ({"compat": "fastchat", "dtype": "float16"}, {"compat": "fastchat"}),
        ({"compat": "fastchat", "dtype": "float32"}, {"compat": "fastchat", "dtype": "float32"}),
        ({"resize_policy": "mean", "keep_rotary": True}, {"resize_policy": "mean", "keep_rotary": True}),
        ({"expected_sum": 1.5, "sum_tolerance": 0.0}, {"expected_sum": 1.5, "sum_tolerance": 0.0}),
        ({"method": "xor", "compat": "fastchat", "keep_rotary": True}, {"method": "xor"}),
    ],
)
def test_chosen_is_what_differs_from_the_defaults_and_has_an_effect(options, chosen):
    assert Options(**options).chosen() == chosen
    assert Options(**chosen).chosen() == chosen


def test_default_options_are_what_the_card_of_a_weight_diff_expects():
    assert asdict(Options()) == {
        "method": "add",
        "compat": "weight_diff",
        "dtype": None,
        "resize_policy": None,
        "max_shard_size": "5GB",
        "keep_rotary": False,
        "expected_sum": None,
        "sum_tolerance": None,
        "tied": None,
        "diff_only": None,
    }
    assert (Options().dtype_name, Options(compat="fastchat").dtype_name) == ("float32", "float16")
