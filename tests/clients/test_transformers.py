"""The newest transformers, used as a researcher would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.environments import client, client_environment
from tests.model_ops.hub.conftest import MODEL, Portal

LOAD = f"""
import json
from transformers import AutoConfig, AutoTokenizer, __version__
config = AutoConfig.from_pretrained("{MODEL}")
tokenizer = AutoTokenizer.from_pretrained("{MODEL}")
print(json.dumps([config.model_type, config.vocab_size, tokenizer("Hello")["input_ids"], __version__]))
"""
REFUSED = f"""
from transformers import AutoConfig
for repo in ("{MODEL}", "no/such"):
    try:
        AutoConfig.from_pretrained(repo)
    except OSError as error:
        print(repo, "says", " ".join(str(error).split()))
raise SystemExit(AutoConfig.from_pretrained("{MODEL}"))
"""


def run(portal: Portal, home: Path, code: str, who: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = client_environment(
        endpoint=portal.url, home=home, token=str(portal.tokens[who] or ""), **more
    )
    return subprocess.run(
        [str(client("transformers")), "-c", code],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_configuration_and_tokenizer_are_loaded(portal: Portal, tmp_path: Path) -> None:
    if "tokenizer.json" not in portal.files:
        pytest.skip("without torch the tiny model has no tokenizer")
    loaded = run(portal, tmp_path, LOAD, "granted")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith('["llama", 32000, [')


def test_configuration_is_loaded_over_https(
    https_portal: Portal, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    code = f"from transformers import AutoConfig; print(AutoConfig.from_pretrained({MODEL!r}).model_type)"
    loaded = run(https_portal, tmp_path, code, "granted", SSL_CERT_FILE=os.fspath(certificate[0]))
    assert (loaded.returncode, loaded.stdout.strip()) == (0, "llama"), loaded.stderr


def test_a_refusal_is_shown_with_its_sentence(portal: Portal, tmp_path: Path) -> None:
    refused = run(portal, tmp_path, REFUSED, "rejected")
    assert refused.returncode == 1
    sentence = f"read why, appeal or ask again at {portal.url}/{MODEL}"
    assert sentence in refused.stdout
    assert "no/such says no/such is not a local folder and is not a valid model identifier" in refused.stdout
    assert sentence in refused.stderr
