"""Check that this is the base that the diff was made from.

This happens before any byte is written, since a wrong base gives fluent-looking gibberish and no error. Names
and shapes were compared while planning.
"""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor

from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.device_pool import is_out_of_memory
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.diff_facts import TensorFact, find_fitting
from model_ops.recovery.planning.memory import BLOCK_SIZE
from model_ops.recovery.planning.plan import Plan
from model_ops.recovery.system.control import Control
from model_ops.recovery.system.page_cache import KEPT_IN_CACHE


def check_base(plan: Plan, control: Control, jobs: int) -> None:
    """Compare each base tensor with the digest in the diff's manifest.

    A refusal names the first one that differs.

    A base stored in another dtype passes if it holds exactly the same values.
    """
    wanted = [(find_fitting(plan.base, name, fact), fact) for name, fact in plan.base_tensors.items()]
    wanted.sort(key=lambda pair: (pair[0].path, pair[0].offset))
    drop = sum(ref.nbytes for ref, _ in wanted) > KEPT_IN_CACHE
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_check_tensors, wanted[start::jobs], drop, control) for start in range(jobs)]
        control.gather(futures)


def converts(plan: Plan) -> bool:
    """Return whether the base stores a tensor in another dtype than when the diff was made.

    If so, torch converts it.
    """
    return any(
        find_fitting(plan.base, name, fact).dtype != fact.dtype for name, fact in plan.base_tensors.items()
    )


def _check_tensors(wanted: list[tuple[TensorRef, TensorFact]], drop: bool, control: Control) -> None:
    buffer = memoryview(bytearray(BLOCK_SIZE))
    with contextlib.closing(Reader(control)) as reader:
        for ref, fact in wanted:
            if _hash_values(ref, fact.dtype, reader, buffer, drop=drop, control=control) != fact.sha256:
                raise Refusal(
                    f"This is not the base that the diff was made from: {ref.name} holds other values; "
                    "use the base that the diff's publisher names."
                )


def _hash_values(
    ref: TensorRef, dtype: str, reader: Reader, buffer: memoryview, *, drop: bool, control: Control
) -> str | None:
    """Return the SHA-256 of the values as `dtype`; None if one of them does not exist in that dtype."""
    digest = hashlib.sha256()
    for start in range(0, ref.nbytes, len(buffer)):
        control.check()
        view = buffer[: min(len(buffer), ref.nbytes - start)]
        reader.read_into(ref.path, ref.offset + start, view, drop=drop)
        data = view if dtype == ref.dtype else _convert_values(view, ref.dtype, dtype)
        if data is None:
            return None
        digest.update(data)
    return digest.hexdigest()


def _convert_values(view: memoryview, stored: str, wanted: str) -> memoryview | None:
    import torch

    from model_ops.recovery.formats.torch_dtypes import BITS, TORCH, bytes_of

    try:
        values = torch.frombuffer(view, dtype=TORCH[stored])
        converted = values.to(TORCH[wanted])
        same = torch.equal(converted.to(TORCH[stored]).view(BITS[stored]), values.view(BITS[stored]))
        return bytes_of(converted.view(torch.uint8)) if same else None
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise
