"""Error messages escape text from strangers, since they reach terminals, logs and pages."""

import pytest

from model_ops.recovery.errors import Cancelled, Failure, RecoveryError, Refusal, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Tensor 'é 漢字' is missing.", "Tensor 'é 漢字' is missing."),
        ("two\nlines\r\nand\ttabs", "two lines and tabs"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("half \ud800 a letter", "half \\ud800 a letter"),
        ("\U000e0041", "\\U000e0041"),
        ("", ""),
    ],
)
def test_line_cannot_steer_a_terminal(text, shown):
    assert one_line(text) == shown
    assert str(Refusal(text)) == shown


def test_long_line_keeps_its_beginning_and_its_end():
    shown = one_line("What happened: " + "x" * 10_000_000 + "; do this.")
    assert (len(shown), shown[:16], shown[-10:]) == (1000, "What happened: x", "; do this.")
    assert len(one_line("\x1b" * 10_000)) == 1000


def test_exit_statuses_are_2_before_writing_and_1_after():
    statuses = [error.exit_status for error in (RecoveryError("a"), Refusal("a"), Failure("a"), Cancelled())]
    assert statuses == [1, 2, 1, 1]
