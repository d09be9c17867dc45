"""The mean in one pass over the rows equals torch's mean to the bit, and reads each byte once."""

import contextlib

import pytest

torch = pytest.importorskip("torch", reason="the mean is compared with torch's own reduction")

from model_ops.recovery.errors import Failure  # noqa: E402
from model_ops.recovery.execution import mean_rows  # noqa: E402
from model_ops.recovery.execution.row_sums import STREAMS, RowSum, cascade_step, find_group  # noqa: E402
from model_ops.recovery.formats.reading import Reader  # noqa: E402
from model_ops.recovery.formats.tensors import TensorRef  # noqa: E402
from model_ops.recovery.planning.columns import MEAN_MEMORY, column_blocks, mean_memory, panels  # noqa: E402
from model_ops.recovery.system.control import Control  # noqa: E402

DTYPES = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}


def written(folder, rows, columns, dtype, seed=0):
    """Write a matrix of normal values after 8 other bytes; return (its reference, its values)."""
    torch.manual_seed(seed)
    values = torch.randn(rows, columns).to(DTYPES[dtype])
    (folder / "values").write_bytes(b"12345678" + values.view(torch.uint8).numpy().tobytes())
    return TensorRef("e", str(folder / "values"), 8, values.nbytes, dtype, (rows, columns)), values


def taken(ref, take=mean_rows.mean_row, half_steps=False):
    """Return (mean, bytes read)."""
    control = Control()
    with contextlib.closing(Reader(control)) as reader:
        return take(ref, reader, half_steps=half_steps), control.bytes_read


SIZES = [
    (32_000, 300), (97, 64), (49_152, 192), (1000, 20), (128_000, 68), (32_000, 1061), (1, 77), (2, 3_000_000),
    (70, 40_001), (5, 7), (3, 1), (262_144, 40), (1_048_577, 9),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_mean_row_equals_the_mean_of_the_whole_and_reads_it_once(tmp_path, rows, columns, dtype):
    ref, values = written(tmp_path, rows, columns, dtype)
    found, read = taken(ref)
    assert torch.equal(found, values.float().mean(0))
    assert read == ref.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_row_in_half_steps_rounds_values_and_mean(tmp_path, dtype):
    ref, values = written(tmp_path, 5_000, 72, dtype)
    assert torch.equal(taken(ref, half_steps=True)[0], values.half().float().mean(0).half().float())


@pytest.mark.parametrize(("rows", "columns"), [*SIZES[:-2], (262_144, 64)])
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_mean_by_columns_has_the_same_bits(tmp_path, rows, columns, dtype):
    ref, values = written(tmp_path, rows, columns, dtype)
    assert torch.equal(taken(ref, mean_rows.mean_by_columns)[0], values.float().mean(0))


def test_mean_by_columns_that_does_not_fit_fails_and_says_what_helps(tmp_path):
    ref = TensorRef("e", str(tmp_path / "none"), 0, 400_000 * 64 * 2, "F16", (400_000, 64))
    with pytest.raises(Failure, match=r"mean of the 400000 rows of e does not fit.*install PyTorch"):
        taken(ref, mean_rows.mean_by_columns)


def added(values, most):
    """Return the sum, taken in blocks of at most `most` steps of every stream."""
    rows, columns = values.shape
    sums = RowSum(rows, columns, find_group(rows))
    for block in values.split(most * STREAMS * cascade_step(rows)):
        sums.add(block.numpy())
    return torch.from_numpy(sums.total())


@pytest.mark.parametrize("rows", range(1, 71))
def test_row_sum_of_few_rows_equals_torch_at_every_width(rows):
    generator = torch.Generator().manual_seed(rows)
    for columns in (*range(8, 101), 127, 128, 129, 1000):
        values = torch.randn(rows, columns, generator=generator)
        assert torch.equal(added(values, 1), values.sum(0)), columns


def test_row_sum_of_random_sizes_equals_torch_for_one_thread_and_two():
    generator = torch.Generator().manual_seed(5)
    threads = torch.get_num_threads()
    try:
        for number in range(120):
            rows = int(2 ** (18 * torch.rand(1, generator=generator).item()))
            columns = 8 + int(
                2 ** (min(16, 21 - rows.bit_length()) * torch.rand(1, generator=generator).item())
            )
            values = torch.randn(rows, columns, generator=generator)
            torch.set_num_threads(1 + number % 2)
            assert torch.equal(added(values, 1 + number % 5), values.sum(0)), (rows, columns)
    finally:
        torch.set_num_threads(threads)


def test_row_sum_of_zeros_with_a_sign_and_of_values_that_are_not_finite_equals_torch():
    values = torch.full((70, 75), -0.0)
    values[3, 5] = values[9, 70] = float("inf")
    values[4, 6] = values[8, 71] = float("nan")
    values[11, 5] = values[12, 70] = float("-inf")
    assert torch.equal(added(values, 1).view(torch.int32), values.sum(0).view(torch.int32))


@pytest.mark.parametrize("columns", [1, 64, 2560, 16_384, 16_385, 65_536, 100_001, 12_000_000])
@pytest.mark.parametrize("rows", [2, 262_144, 4_000_000])
def test_panels_cover_every_column_in_few_wide_parts(rows, columns):
    ref = TensorRef("e", "", 0, rows * columns * 2, "F16", (rows, columns))
    found = panels(ref)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == columns
    assert max(stop - start for start, stop in found) * 4 * STREAMS * cascade_step(rows) <= 4.1 * 2**20
    assert all(start % 64 == 0 for start, _ in found)


@pytest.mark.parametrize("item", ["F16", "F32"])
def test_memory_for_a_mean_does_not_grow_with_the_rows(item):
    def memory(rows, columns):
        return mean_memory(TensorRef("e", "", 0, 0, item, (rows, columns)))

    assert memory(32_000, 2560) == memory(4_000_000, 2560) == MEAN_MEMORY + 8 * 2560
    assert memory(10, 64) < 20_000


def test_blocks_of_columns_hold_every_row_of_the_largest_vocabularies():
    for rows, columns in ((262_208, 2560), (256_206, 2048), (128_256, 16_384), (32_001, 5120)):
        blocks = column_blocks(TensorRef("e", "", 0, rows * columns * 2, "BF16", (rows, columns)))
        assert blocks[-1][1] == columns
        assert max(stop - start for start, stop in blocks) * rows * 4 < MEAN_MEMORY
