"""Every architecture of the installed transformers, and tiny random models of those that can be built.

Sizes in a configuration are shrunk by name; if the configuration does not accept that, fewer of them are
shrunk. Architectures that no attempt can build are listed with the reason.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers import models as families

transformers.logging.set_verbosity_error()

TINY = 20_000_000  # parameters: no smaller model is looked for
LARGEST = 120_000_000  # parameters that a model may have if no attempt makes a smaller one
PATIENCE = 60  # seconds for one attempt
VOCABULARY = 99

_LAYERS = r"(.*_)?(num_hidden_layers|n_layers?|num_layers|(en|de)coder_layers|num_(en|de)coder_layers|num_blocks|depth|layers)"
_HEADS = r"(.*_)?(num_attention_heads|n_heads?|num_heads|attention_heads|num_key_value_heads|num_kv_heads|n_kv_heads)"
_WIDTH = (
    r"(.*_)?(hidden_size|d_model|n_embed|n_embd|embed_dim|emb_dim|hidden_dim|model_dim|embedding_size|embedding_dim|dim"
    r"|projection_dim|out_hidden_size|width|word_embed_proj_dim)"
)
_RULES = {
    "vocabulary": (r".*vocab_size(_.*)?", VOCABULARY),
    "width": (_WIDTH, 32),
    "inner": (
        r"(.*_)?(intermediate_size|d_ff|ffn_dim|n_inner|inner_dim|intermediate_dim|ffn_hidden_size|mlp_dim)",
        64,
    ),
    "layers": (_LAYERS, 2),
    "heads": (_HEADS, 4),
    "head_dim": (
        r"(.*_)?(head_dim|d_kv|kv_channels|attention_head_size|qk_nope_head_dim|qk_rope_head_dim)",
        8,
    ),
    "positions": (
        r"(.*_)?(max_(target_|source_)?position\w*|n_positions|n_ctx|max_seq\w*|context_length)",
        64,
    ),
    "experts": (r"(num|n)_(.*_)?experts|moe_num_experts", 4),
    "active_experts": (
        r"(num_experts_per_tok(en)?|moe_top_?k|top_k_experts|num_selected_experts|expert_top_k)",
        2,
    ),
    "image": (r"(.*_)?image_size", 32),
    "patch": (r"(.*_)?patch_size", 8),
    "rank": (r"(.*_)?(q|kv)_lora_rank", 16),
}
# Rules left out in each attempt; "+head_dim" gives a head_dim to configurations that have none.
_ATTEMPTS = (
    (), ("+head_dim",), ("head_dim",), ("layers",), ("width", "heads", "head_dim"), ("layers", "heads"), ("heads",),
    ("width",), ("positions",), ("width", "heads", "head_dim", "layers"), tuple(_RULES),
)  # fmt: skip

# What some configurations need in addition to smaller sizes, by the configuration's class.
_NEEDED: dict[str, dict[str, object]] = {
    "ChameleonConfig": {"vocabulary_map": {"<image>": 4}},
    "Dots1Config": {"n_routed_experts": 4, "n_shared_experts": 1, "num_hidden_layers": 2},
    "Emu3Config": {"vocabulary_map": {"<image>": 4}},
    "EsmConfig": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "Gemma3nTextConfig": {"num_kv_shared_layers": 0, "num_hidden_layers": 2, "intermediate_size": 64,
                          "layer_types": ["sliding_attention", "full_attention"],
                          "activation_sparsity_pattern": [0.0, 0.0]},
    "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "Mamba2Config": {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 1},
    "NemotronConfig": {"num_key_value_heads": 4, "head_dim": 8},
}  # fmt: skip


def all_classes() -> dict[str, type[PreTrainedModel]]:
    """Return class name -> class of every model class in transformers that has a configuration."""
    found: dict[str, type[PreTrainedModel]] = {}
    for family in pkgutil.iter_modules(families.__path__):
        for module in pkgutil.iter_modules([f"{families.__path__[0]}/{family.name}"]):
            if module.name.startswith("modeling_"):
                found |= _classes_in(f"{families.__name__}.{family.name}.{module.name}")
    return dict(sorted(found.items()))


def _classes_in(name: str) -> dict[str, type[PreTrainedModel]]:
    try:
        module = importlib.import_module(name)
    except ImportError:  # needs a package that is not installed
        return {}
    return {
        label: member
        for label, member in vars(module).items()
        if inspect.isclass(member)
        and issubclass(member, PreTrainedModel)
        and member.__module__ == name
        and member.config_class is not None
        and not label.endswith("PreTrainedModel")
    }


def configs_in(config: PretrainedConfig, path: str = "") -> Iterator[tuple[str, PretrainedConfig]]:
    """Yield (dotted path, configuration) of a configuration, whose path is empty, and of all inside it."""
    yield path, config
    for name in type(config).sub_configs or {}:
        inner = getattr(config, name, None)
        if isinstance(inner, PretrainedConfig):
            yield from configs_in(inner, f"{path}.{name}" if path else name)


class CannotBuildError(Exception):
    """No attempt could build a tiny model; the message is the reason."""


@cache
def _working_attempt(cls: type[PreTrainedModel]) -> tuple[str, ...]:
    """Return the first attempt that builds a small model on the meta device.

    Raise CannotBuildError with the reason if there is none.
    """
    reason, sizes = "", {}
    for left_out in _ATTEMPTS:
        try:
            with limited_time(PATIENCE), torch.device("meta"):
                size = sum(value.numel() for value in cls(_shrunk(cls.config_class, left_out)).parameters())
        except Exception as error:
            reason = reason or f"{type(error).__name__}: {str(error).split(chr(10))[0][:120]}"
            continue
        if size <= TINY:
            return left_out
        sizes[left_out] = size
    if sizes and min(sizes.values()) <= LARGEST:
        return min(sizes, key=sizes.__getitem__)
    raise CannotBuildError(reason or f"{min(sizes.values()) // 10**6} million parameters")


def tiny_config(cls: type[PreTrainedModel]) -> PretrainedConfig:
    """Return a small configuration that `cls` accepts; raise CannotBuildError if there is none."""
    return _shrunk(cls.config_class, _working_attempt(cls))


def tiny_model(
    cls: type[PreTrainedModel], seed: int, config: PretrainedConfig | None = None
) -> PreTrainedModel:
    """Return a random model in float32 whose values, except buffers, all differ from the initial ones."""
    torch.manual_seed(seed)
    model = cls(config or tiny_config(cls)).float().eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape) * 0.02)
    return model


def _shrunk(cls: type[PretrainedConfig], left_out: tuple[str, ...], depth: int = 0) -> PretrainedConfig:
    default = None
    with suppress(Exception):
        default = cls()
    chosen = {}
    for name in _field_names(cls):
        value = _peek(default, name)
        small = _small(name, value, left_out)
        if small != value:
            chosen[name] = small
    for name, kind in (cls.sub_configs or {}).items():
        inner = _peek(default, name)
        kind = type(inner) if isinstance(inner, PretrainedConfig) else kind
        if kind is not AutoConfig and depth < 4:
            chosen[name] = _shrunk(kind, left_out, depth + 1)
    return cls(**chosen | _NEEDED.get(cls.__name__, {}))


def _field_names(cls: type[PretrainedConfig]) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]


def _peek(config: PretrainedConfig | None, name: str) -> object:
    """Return an attribute, or None if the configuration has no single value for all layers."""
    with suppress(Exception):
        return getattr(config, name, None)
    return None


def _small(name: str, value: object, left_out: tuple[str, ...]) -> object:
    if name == "head_dim" and value is None and "+head_dim" in left_out:
        return 8
    if type(value) is not int:
        return value
    if name.endswith(("token_id", "token_index")):
        return value if value < VOCABULARY - 9 else 3
    for rule, (pattern, most) in _RULES.items():
        if rule not in left_out and value > 0 and re.fullmatch(pattern, name):
            return min(most, value)
    return value


@contextmanager
def limited_time(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread after this many seconds; do nothing in other threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"took more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
