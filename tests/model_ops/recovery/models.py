"""Tiny LLaMA-shaped checkpoints for tests, and the oracle: what weight_diff.py does, with transformers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle loads models with transformers")

ROOT = Path(__file__).resolve().parents[3]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def make_model(seed=0, vocab=97, hidden=64, tied=False, layers=2):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        pad_token_id=None,
    )
    return transformers.LlamaForCausalLM(config)


def tune(model, seed=1, new_rows=0):
    """Return a changed copy of a model, with new rows if requested."""
    torch.manual_seed(seed)
    tuned = make_model(tied=model.config.tie_word_embeddings, vocab=model.config.vocab_size,
                       hidden=model.config.hidden_size, layers=model.config.num_hidden_layers)  # fmt: skip
    tuned.load_state_dict(model.state_dict())
    if new_rows:
        tuned.resize_token_embeddings(model.config.vocab_size + new_rows, mean_resizing=False)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(torch.randn_like(parameter) * 1e-2)
    return tuned


def save(model, folder, dtype="F32", kind="safetensors", shard_size="5GB"):
    """Write a checkpoint folder with the model and a file that looks like a tokenizer."""
    model = model.to(DTYPES[dtype])
    model.config.dtype = DTYPES[dtype]
    model.save_pretrained(folder, max_shard_size=shard_size)
    model.to(torch.float32)
    if kind == "bin":
        safetensors_to_bin(folder, tied=model.config.tie_word_embeddings)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 32}\n')
    return folder


def save_state(config, state, folder, kind="safetensors"):
    """Write a checkpoint of the given tensors, in their own dtypes, with a model's configuration."""
    from safetensors.torch import save_file

    config.save_pretrained(folder)
    if kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def safetensors_to_bin(folder, tied=False):
    """Replace the safetensors in a folder with torch.save files, with tied names in one storage."""
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        state = load_file(path)
        if tied and "model.embed_tokens.weight" in state:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        torch.save(state, folder / bin_name(path.name))
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        table = json.loads(index.read_text())
        table["weight_map"] = {name: bin_name(file) for name, file in table["weight_map"].items()}
        if tied:
            table["weight_map"]["lm_head.weight"] = table["weight_map"]["model.embed_tokens.weight"]
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(table))
        index.unlink()


def bin_name(name):
    return name.replace("model", "pytorch_model").replace(".safetensors", ".bin")


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def grow_with_mean(model, rows):
    """Grow a model as the peers grow a base without padding token: with the mean of its rows."""
    old = model.config.vocab_size
    model.resize_token_embeddings(rows, mean_resizing=False)
    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
        embedding.weight.data[old:] = embedding.weight.data[:old].mean(dim=0, keepdim=True)


def grow_with_zero(model, rows):
    """Grow a model as several forks of FastChat do: with rows of zeros."""
    old = model.config.vocab_size
    model.resize_token_embeddings(rows, mean_resizing=False)
    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
        embedding.weight.data[old:] = 0


def oracle_recover(base_folder, diff_folder, out, shard_size="5GB", *, grow=grow_with_mean, dtype="F32"):
    """Do what weight_diff.py's recover does, line by line, but without its tokenizer: shapes decide.

    Without `grow`, tensors of different shapes are left as the diff has them, as in alpaca_farm.
    """
    base, diff = load(base_folder), load(diff_folder)
    if grow and diff.config.vocab_size > base.config.vocab_size:
        grow(base, diff.config.vocab_size)
    raw, state = base.state_dict(), diff.state_dict()
    for key in state:
        if grow or state[key].shape == raw[key].shape:
            state[key].add_(raw[key])
    diff.to(DTYPES[dtype]).save_pretrained(out, max_shard_size=shard_size)


def oracle_diff(base_folder, tuned, out, dtype="F32", kind="safetensors", shard_size="5GB"):
    """Save tuned - base, computed in float32 with tied tensors twice, in `dtype`."""
    base = load(base_folder)
    if tuned.config.vocab_size > base.config.vocab_size:
        grow_with_mean(base, tuned.config.vocab_size)
    raw, state = base.state_dict(), tuned.state_dict()
    for key in state:
        state[key].sub_(raw[key])
    return save(tuned, out, dtype, kind, shard_size)


def weights_of(folder):
    """Return file name -> bytes of every weight file and index."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors*"))}


def run_cli(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "model_ops.recovery", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
        **options,
    )
