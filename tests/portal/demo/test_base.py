"""Converting GGUF to a Hugging Face folder: names, row order and refusals. test_pair has the whole model."""

import pytest

from portal.demo.base import DemoPairError, find_package, llama_name, unpermute


@pytest.mark.parametrize(
    ("gguf", "llama"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.29.ffn_down.weight", "model.layers.29.mlp.down_proj.weight"),
    ],
)
def test_llama_name_known(gguf: str, llama: str) -> None:
    assert llama_name(gguf) == llama


@pytest.mark.parametrize("name", ["rope_freqs.weight", "blk.x.attn_q.weight", "blk.0.attn_q.bias.more", ""])
def test_llama_name_unknown_is_one_sentence(name: str) -> None:
    with pytest.raises(DemoPairError, match="holds a tensor this demo does not know") as refusal:
        llama_name(name)
    assert repr(name) in str(refusal.value)


def test_unpermute_undoes_interleaved_rows() -> None:
    torch = pytest.importorskip("torch", reason="the demo model needs torch")
    heads, half, columns = 3, 4, 2
    weight = torch.arange(heads * 2 * half * columns).reshape(-1, columns)
    interleaved = [
        head * 2 * half + side * half + row for head in range(heads) for row in range(half) for side in (0, 1)
    ]
    assert torch.equal(unpermute(weight[interleaved], heads=heads), weight)


def test_find_package_names_version_and_files() -> None:
    pytest.importorskip("gguf", reason="the demo's lock is not installed")
    package = find_package()
    assert package.gguf.read_bytes()[:4] == b"GGUF"
    assert "Apache License" in package.licence.read_text("utf-8")
    assert package.version
