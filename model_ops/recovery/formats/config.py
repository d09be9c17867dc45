"""The few values that are read from, and changed in, the JSON files next to the weights."""

from __future__ import annotations

import json
import re
from itertools import islice, tee
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.folder import inner_file, parse_json, read_json_file

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json; empty if there is none."""
    if not (folder / "config.json").exists():
        return {}
    return read_json_file(inner_file(folder, "config.json"))


def has_pad_token(folder: Path) -> bool:
    """Return whether the tokenizer names a padding token; weight_diff then does not grow the base."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists() and read_json_file(inner_file(folder, name)).get("pad_token"):
            return True
    return False


def with_dtype(raw: bytes, long_name: str) -> bytes:
    """Return config.json with its top-level `dtype` and `torch_dtype` set to `long_name`.

    No other byte changes.

    Only top-level keys are changed, if their value is a string or null, and none is added.
    """
    try:
        parse_json(raw, unique=False)
        text = raw.decode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Refusal("config.json is not valid JSON.") from error
    pieces, last, depth = [], 0, 0
    here_on, next_on, after_on = tee(_TOKEN.finditer(text), 3)
    triples = zip(here_on, islice(next_on, 1, None), islice(after_on, 2, None), strict=False)
    for here, colon, value in triples:
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(here.group(), 0)
        is_key = here.group() in {'"dtype"', '"torch_dtype"'} and colon.group() == ":"
        if depth == 1 and is_key and (value.group() == "null" or value.group().startswith('"')):
            pieces += [text[last : value.start()], json.dumps(long_name)]
            last = value.end()
    return "".join([*pieces, text[last:]]).encode("utf-8")
