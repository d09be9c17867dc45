"""Write `model_ops/recovery/checkpoints/ties.json`: which names transformers ties to one tensor, as observed on its own models.

    python -m tests.model_ops.recovery.ties_table

For every class, build a tiny model on the meta device: with one tying switch on at a time, and with all of them off;
names that share a parameter form a group. The names in files are those that saving would write. How a configuration's JSON
sets a switch is read through transformers' own configuration class, for every combination of the outer and the
inner `tie_word_embeddings`. Needs transformers; `checkpoints/test_tie_table.py` compares the table with the installed version.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict
from transformers.models.auto import modeling_auto

from model_ops.recovery.checkpoints import ties
from model_ops.recovery.checkpoints.buffers import is_buffer
from model_ops.recovery.formats.tensors import TensorRef
from tests.model_ops.recovery.architectures import (
    CannotBuildError,
    all_classes,
    configs_in,
    limited_time,
    tiny_config,
)

TABLE = Path(ties.__file__).with_name("ties.json")
SAID = (None, True, False)
MOST_GROUPS = 5  # more of them, and their number may depend on the model's size
_PLAIN = re.compile(r"[A-Za-z0-9_.]+(weight|bias|codec_head)")
_MODEL_KINDS = (
    "MODEL_FOR_CAUSAL_LM", "MODEL_FOR_IMAGE_TEXT_TO_TEXT", "MODEL_FOR_MULTIMODAL_LM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ", "MODEL_FOR_MASKED_LM", "MODEL_FOR_PRETRAINING",
)  # fmt: skip


# Classes with many groups whose number does not depend on the size.
_FIXED = ("BarkFineModel", "BarkModel", "PPDocLayoutV3ForObjectDetection", "PPDocLayoutV3Model")
# Classes where it does: (each, names with a star for the number), see `repeated_names.expanded`.
_BOX = tuple(f"layers.{n}.{part}" for n in range(3) for part in ("weight", "bias"))
_EACH_INDEX = tuple(
    ("index", (f"model.decoder.{name}", name))
    for name in ("class_embed.*.weight", "class_embed.*.bias", *(f"bbox_embed.*.{part}" for part in _BOX))
)
_ALL_BOXES = tuple(
    ("decoder_layers", (f"model.decoder.bbox_embed.*.{part}", f"bbox_embed.*.{part}")) for part in _BOX
)
_ALL_BIASES = ("decoder_layers", ("model.decoder.class_embed.*.bias", "class_embed.*.bias"))
_HEAD = ("", ("model.embed_tokens.weight", "lm_head.weight"))
_SIZED: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "Deimv2ForObjectDetection": _EACH_INDEX,
    "RTDetrV2ForObjectDetection": _EACH_INDEX,
    "GroundingDinoForObjectDetection": _ALL_BOXES,
    "MMGroundingDinoForObjectDetection": (*_ALL_BOXES, _ALL_BIASES),
    "ZambaForCausalLM": (_HEAD, ("shared", ("model.layers.*.shared_transf.",))),
    "ZambaForSequenceClassification": (("shared", ("model.layers.*.shared_transf.",)),),
    "ZambaModel": (("shared", ("layers.*.shared_transf.",)),),
    "Zamba2ForCausalLM": (_HEAD, ("shared", ("model.layers.*.shared_transformer.",))),
    "Zamba2ForSequenceClassification": (("shared", ("model.layers.*.shared_transformer.",)),),
    "Zamba2Model": (("shared", ("layers.*.shared_transformer.",)),),
}


UNCLEAR: list[Group] = []  # what `groups_of` returns if names are tied and nothing shows which
_SHORT = {torch.bool: "BOOL", torch.uint8: "U8", torch.int32: "I32", torch.int64: "I64"}


# Ties that depend on a number rather than a flag, or a model that is not built here.
_FLAGS: dict[str, dict[str, object]] = {
    "BarkFineModel": {"n_codes_given": 1},
    "GroundingDinoForObjectDetection": {"decoder_bbox_embed_share": True},
    "MMGroundingDinoForObjectDetection": {"decoder_bbox_embed_share": True, "decoder_cls_embed_share": True},
}


@dataclass(frozen=True)
class Group:
    """Names of one parameter in the order of the state dict: as in files and, if different, as in the model.

    `stored` is the position of the one that is saved. `each` says how names with a star are expanded. `when`
    says whether the group is tied: a letter, T or F, for each of None, True, False in the outer configuration
    (and, with `inner`, for each of these combined with each in that inner one).
    """

    spellings: tuple[tuple[str, ...], ...]
    stored: int
    prefix: str
    inner: str
    when: str
    each: str = ""


def build_table() -> dict[str, Any]:
    """Return the table in its stored form."""
    groups: dict[Group, list[str]] = defaultdict(list)
    untied, unclear, embeddings, kept, flags = [], [], set(), set(), {}
    for name, cls in all_classes().items():
        found = groups_of(cls)
        embeddings |= embedding_names(cls)
        kept |= kept_buffers(cls)
        if found is None:
            continue
        if found is UNCLEAR or (_are_many(found) and name not in (*_FIXED, *_SIZED)):
            unclear.append(name)
        elif not found:
            untied.append(name)
        else:
            flags |= {name: asked} if (asked := _FLAGS.get(name) or other_switches(cls)) else {}
            for group in found:
                groups[group].append(name)
    lines = [{**asdict(group), "architectures": names} for group, names in groups.items()]
    return {
        "transformers": transformers.__version__,
        "ties": sorted(lines, key=lambda line: (line["spellings"], line["when"], line["architectures"])),
        "unclear": unclear,
        "untied": untied,
        "embeddings": sorted(embeddings),
        "flags": flags,
        "kept_buffers": sorted(kept),
        "by_model_type": default_classes(),
    }


def default_classes() -> dict[str, list[str]]:
    """Return model type -> classes that it may mean without `architectures`, language models first."""
    chosen: dict[str, dict[str, None]] = defaultdict(dict)
    for kind in _MODEL_KINDS:
        for model_type, names in getattr(modeling_auto, f"{kind}_MAPPING_NAMES").items():
            chosen[model_type][names if isinstance(names, str) else names[0]] = None
    return {model_type: list(names) for model_type, names in sorted(chosen.items())}


def other_switches(cls: type[PreTrainedModel]) -> dict[str, bool]:
    """Return the flags besides `tie_word_embeddings` that change what is tied, with their defaults."""
    found = {}
    with suppress(Exception):
        default = sorted(map(sorted, _aliases(_built(cls, {}))))
        for name, value in vars(_config(cls)).items():
            if isinstance(value, bool) and name != "tie_word_embeddings" and not name.startswith("_"):
                with suppress(Exception):
                    flipped = sorted(map(sorted, _aliases(_built(cls, {name: not value}))))
                    found |= {name: value} if flipped != default else {}
    return found


def _built(cls: type[PreTrainedModel], changed: dict[str, bool]) -> PreTrainedModel:
    """Return a model on the meta device with everything tied that can be, and some flags changed."""
    config = _config(cls)
    for inner in _switches(config).values():
        inner.tie_word_embeddings = True
    for name, value in changed.items():
        setattr(config, name, value)
    with limited_time(60), torch.device("meta"):
        return cls(config)


def groups_of(cls: type[PreTrainedModel]) -> list[Group] | None:
    """Return every group that some configuration ties.

    None means that no model can be built and the class itself ties nothing; UNCLEAR that names are tied and
    neither a model nor the class shows which.
    """
    if cls.__name__ in _SIZED:
        inner, when = _switch(cls.config_class, "")
        prefix = cls.base_model_prefix or ""
        return [Group((names,), len(names) - 1 if each == "decoder_layers" else 0, prefix, inner, when, each)
                for each, names in _SIZED[cls.__name__]]  # fmt: skip
    try:
        config = _config(cls)
    except CannotBuildError:
        return _declared_groups(cls)
    untied = _model(cls, on=())
    file_names, always = names_in_files(untied), _aliases(untied)
    found = [_group(cls, names, names[0], file_names, "", "TTT") for names in always]
    for path in _switches(config) if _can_tie(untied) else ():
        try:
            model = _model(cls, on=(path,))
        except AttributeError:  # what it would tie does not exist: no model like this can be loaded
            continue
        kept = set(remove_tied_weights_from_state_dict(model.state_dict(), model))
        for names in _aliases(model):
            if names not in always:
                stored = next(name for name in names if name in kept)
                inner, when = _switch(cls.config_class, path)
                found.append(_group(cls, names, stored, file_names, inner, when))
    return found


def _group(
    cls: type[PreTrainedModel],
    names: list[str],
    stored: str,
    file_names: dict[str, str],
    inner: str,
    when: str,
) -> Group:
    spelt = dict.fromkeys((tuple(file_names.get(name, name) for name in names), tuple(names)))
    return Group(tuple(spelt), names.index(stored), cls.base_model_prefix or "", inner, when)


def _config(cls: type[PreTrainedModel]) -> PretrainedConfig:
    """Return a small configuration of the class, or its default: the meta device has room for any size."""
    with suppress(CannotBuildError):
        return tiny_config(cls)
    try:
        with limited_time(60), torch.device("meta"):
            return cls(cls.config_class()).config
    except Exception as error:
        raise CannotBuildError(str(error)) from error


@lru_cache(maxsize=4)
def _model(cls: type[PreTrainedModel], on: tuple[str, ...]) -> PreTrainedModel:
    """Return a model on the meta device with only the switches at the paths `on` switched on."""
    config = _config(cls)
    for path, inner in _switches(config).items():
        inner.tie_word_embeddings = path in on
    with limited_time(60), torch.device("meta"):
        return cls(config)


def _switches(config: PretrainedConfig) -> dict[str, PretrainedConfig]:
    """Return path -> configuration for each configuration that has a tying switch."""
    return {
        p: inner for p, inner in configs_in(config) if getattr(inner, "tie_word_embeddings", None) is not None
    }


def _can_tie(model: PreTrainedModel) -> bool:
    return any(getattr(part, "_tied_weights_keys", None) for part in model.modules())


def _aliases(model: PreTrainedModel) -> list[list[str]]:
    """Return the groups of names that share a parameter or buffer, each in the state dict's order."""
    groups = defaultdict(list)
    for name in model.state_dict():
        groups[id(model.get_parameter_or_buffer(name))].append(name)
    return [names for names in groups.values() if len(names) > 1]


def names_in_files(model: PreTrainedModel) -> dict[str, str]:
    """Return name in the model -> name in its files, for tensors that are saved unchanged."""
    state = model.state_dict()
    by_tensor = {id(tensor): name for name, tensor in state.items()}
    with suppress(Exception):
        written = revert_weight_conversion(model, dict(state))
        return {by_tensor[id(tensor)]: name for name, tensor in written.items() if id(tensor) in by_tensor}
    return {name: name for name in state}


@cache
def _switch(config_class: type[PretrainedConfig], path: str) -> tuple[str, str]:
    """Return (the inner configuration that matters, the letters of `Group.when`) for the switch at `path`."""
    inner = path or ("text_config" if "text_config" in (config_class.sub_configs or {}) else "")
    letters = "".join(
        "T" if _switched(config_class, path, inner, outer_said, inner_said) else "F"
        for outer_said, inner_said in itertools.product(SAID, SAID if inner else (None,))
    )
    if inner and all(len(set(letters[start : start + 3])) == 1 for start in (0, 3, 6)):
        return "", letters[::3]
    return inner, letters


def _switched(
    config_class: type[PretrainedConfig],
    path: str,
    inner: str,
    outer_said: bool | None,
    inner_said: bool | None,
) -> bool:
    """Return what transformers makes of the switch at `path` for these values in config.json."""
    default = config_class()
    written: dict[str, Any] = {"model_type": config_class.model_type}
    if outer_said is not None:
        written["tie_word_embeddings"] = outer_said
    if inner and inner_said is not None:
        table, config = written, default
        for part in inner.split("."):
            config = getattr(config, part)
            table = table.setdefault(part, {"model_type": config.model_type})
        table["tie_word_embeddings"] = inner_said
    try:
        read = config_class.from_dict(written)
    except Exception:  # an inner configuration that needs more than a few keys: each decides for itself
        own = inner_said if path else outer_said
        return bool(dict(configs_in(default))[path].tie_word_embeddings) if own is None else own
    return bool(getattr(dict(configs_in(read))[path], "tie_word_embeddings", False))


def _declared_groups(cls: type[PreTrainedModel]) -> list[Group] | None:
    """Return what the class itself declares, if no tiny model of it can be built."""
    declared = cls._tied_weights_keys
    if not declared:
        return None
    is_plain = isinstance(declared, dict) and all(map(_PLAIN.fullmatch, [*declared, *declared.values()]))
    if not is_plain or cls.config_class.sub_configs:  # an inner model may tie more
        return UNCLEAR
    try:
        inner, when = _switch(cls.config_class, "")
    except Exception:
        return UNCLEAR
    by_source = defaultdict(list)
    for target, source in declared.items():
        by_source[source].append(target)
    prefix = cls.base_model_prefix or ""
    return [Group(((source, *targets),), 0, prefix, inner, when) for source, targets in by_source.items()]


def embedding_names(cls: type[PreTrainedModel]) -> set[str]:
    """Return the names, in the model and in its files, of tensors that grow with the vocabulary."""
    try:
        model = _model(cls, on=())
    except CannotBuildError:
        return set()
    found, file_names = set(), names_in_files(model)
    for get in (model.get_input_embeddings, model.get_output_embeddings):
        with suppress(Exception):
            weight = get().weight
            name = next(name for name, value in model.named_parameters() if value is weight)
            found |= {name, file_names.get(name, name)} if weight.dim() == 2 else set()
    return found


def kept_buffers(cls: type[PreTrainedModel]) -> set[str]:
    """Return "CLASS NAME" of each tensor that `is_buffer` mistakes for a buffer; NAME has stars for numbers."""
    try:
        model = _model(cls, on=())
    except CannotBuildError:
        return set()
    refs = (
        TensorRef(name, "", 0, 0, _SHORT.get(value.dtype, "F32"), tuple(value.shape))
        for name, value in model.state_dict().items()
    )
    return {f"{cls.__name__} {re.sub(r'[0-9]+', '*', ref.name)}" for ref in refs if is_buffer(ref)}


def _are_many(groups: list[Group]) -> bool:
    return len(groups) > MOST_GROUPS or any(len(group.spellings[0]) > MOST_GROUPS for group in groups)


def main() -> None:
    """Write the table."""
    text = json.dumps(build_table(), separators=(",", ":"))
    TABLE.write_text(text.replace('{"spellings"', '\n{"spellings"').replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
