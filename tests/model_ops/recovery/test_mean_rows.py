"""The mean in blocks of columns has the bits of the mean over the whole matrix."""

import contextlib

import pytest

torch = pytest.importorskip("torch", reason="the mean is torch's own reduction")

from model_ops.recovery import mean_rows  # noqa: E402
from model_ops.recovery.control import Control  # noqa: E402
from model_ops.recovery.reading import Reader  # noqa: E402
from model_ops.recovery.tensors import TensorRef  # noqa: E402


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(32000, 300), (97, 64), (49152, 192), (1000, 20), (128000, 68), (32000, 1061), (2, 3_000_000)],
)
@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_mean_row_in_blocks_equals_the_mean_of_the_whole(tmp_path, rows, columns, dtype):
    torch.manual_seed(0)
    values = torch.randn(rows, columns).to({"F16": torch.float16, "F32": torch.float32}[dtype])
    (tmp_path / "values").write_bytes(b"12345678" + values.numpy().tobytes())
    ref = TensorRef("e", str(tmp_path / "values"), 8, values.nbytes, dtype, (rows, columns))
    with contextlib.closing(Reader(Control())) as reader:
        found = mean_rows.mean_row(ref, reader, half_steps=False)
    assert torch.equal(found, values.float().mean(0))
