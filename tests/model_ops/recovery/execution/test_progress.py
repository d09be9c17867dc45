"""The progress bar on a terminal; test_cli covers the JSON lines."""

from model_ops.recovery.execution.progress import Bar


def test_bar_is_one_line_that_ends_once(capsys):
    bar = Bar()
    for done in (0, 50_000, 100_000, 100_000):
        bar(done, 100_000, "model.safetensors")
    shown = capsys.readouterr().err
    first, half, whole = shown.split("\r")[1:]
    assert first == f"[{' ' * 24}]   0% 0 B of 100.0 KB, 0 B/s, starting  "
    assert half.startswith(f"[{'#' * 12}{' ' * 12}]  50% 50.0 KB of 100.0 KB, ")
    assert whole.startswith(f"[{'#' * 24}] 100% 100.0 KB of 100.0 KB, ")
    assert shown.count("\n") == 1
    assert whole.endswith("\n")
