"""`./dev.py bench`: start times, page times and the recovery engine's rate on this machine.

Works in a temporary state folder and on loopback alone; a portal that runs meanwhile is left in peace, but it and
everything else on the machine takes time from what is measured.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from portal.embedded.errors import StartError
from portal.embedded.prepare import CHECKOUT
from portal.embedded.servers import wipe_servers
from portal.embedded.supervisor import run_portal

REQUESTS = 200
LAYERS, WIDTH, VOCABULARY = 8, 1024, 32_000  # about 200 million values, 400 MB in bfloat16


def bench() -> None:
    """Prints one line per figure."""
    with _temporary_state() as state:
        with _portal(state, "portal, new state folder, until ready"):
            pass
        with _portal(state, "portal, existing state folder, until ready") as address:
            for path in ("/", "/healthz"):
                _say(f"GET {path}, median and 95th percentile", _page_times(address, path))
        if find_spec("torch") is None:
            _say("recovery engine", "torch is not installed here")
        else:
            _engine(state / "engine")


@contextmanager
def _temporary_state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as folder:
        state = Path(folder) / "state"
        yield state
        wipe_servers(state)


@contextmanager
def _portal(state: Path, what: str) -> Iterator[str]:
    """A portal on a free port; servers of the caller's environment are not used."""
    for name in ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL"):
        os.environ.pop(name, None)
    started = time.perf_counter()
    with run_portal(state) as portal:
        _say(what, f"{time.perf_counter() - started:.2f} s")
        yield portal.address


def _page_times(address: str, path: str) -> str:
    """One connection, one request after another."""
    seconds = []
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as connection:
        for _ in range(REQUESTS):
            started = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            seconds.append(time.perf_counter() - started)
    return (
        f"{1000 * statistics.median(seconds):.1f} ms, {1000 * sorted(seconds)[int(REQUESTS * 0.95)]:.1f} ms"
    )


def _engine(folder: Path) -> None:
    """make_diff and recover on made-up weights, as an operator would call them."""
    from safetensors.torch import save_file  # type: ignore[import-not-found,unused-ignore]

    for name in ("base", "tuned"):
        (folder / name).mkdir(parents=True)
        save_file(_weights(), folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(_CONFIG))
    size = (folder / "base" / "model.safetensors").stat().st_size
    base, tuned = ["--path_raw", str(folder / "base")], ["--path_tuned", str(folder / "tuned")]
    diff, made = ["--path_diff", str(folder / "diff")], ["--path_tuned", str(folder / "made")]
    dtype = ["--dtype", "bfloat16"]
    for what, arguments in {"make_diff": [*base, *tuned, *diff], "recover": [*base, *diff, *made]}.items():
        seconds = _run("model_ops.recovery", what, *arguments, *dtype)
        _say(f"{what}, {size / 1e6:.0f} MB of bfloat16", f"{seconds:.2f} s, {size / 1e6 / seconds:.0f} MB/s")


_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "vocab_size": VOCABULARY,
    "num_hidden_layers": LAYERS, "intermediate_size": 4 * WIDTH, "num_attention_heads": 16,
    "num_key_value_heads": 16, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


def _weights() -> dict[str, object]:
    """A LLaMA's tensors by name, random, so that nothing is compressed or skipped."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    def random(*shape: int) -> object:
        return torch.randn(*shape, dtype=torch.bfloat16) * 0.02

    weights = {
        "model.embed_tokens.weight": random(VOCABULARY, WIDTH),
        "lm_head.weight": random(VOCABULARY, WIDTH),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{prefix}self_attn.{name}.weight"] = random(WIDTH, WIDTH)
        for name, rows, columns in (("gate_proj", 4, 1), ("up_proj", 4, 1), ("down_proj", 1, 4)):
            weights[f"{prefix}mlp.{name}.weight"] = random(rows * WIDTH, columns * WIDTH)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}{name}.weight"] = random(WIDTH)
    return {**weights, "model.norm.weight": random(WIDTH)}


def _run(module: str, *arguments: str) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise StartError(f"{arguments[0]} failed: {(result.stderr.strip().splitlines() or ['?'])[-1]}")
    return time.perf_counter() - started


def _say(what: str, figure: str) -> None:
    print(f"{what}: {figure}", flush=True)
