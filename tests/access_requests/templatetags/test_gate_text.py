"""What a client reports about itself, in plain words."""

from __future__ import annotations

import pytest

from access_requests.templatetags.gate_text import client_words


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("", ""),
        ("python-httpx2/2.16.2", ""),
        ("python-requests/2.32.5", ""),
        ("hf/2.4.0; hf_hub/2.4.0; python/3.11.7", "hf 2.4.0 (huggingface_hub)"),
        ("huggingface-cli/0.36.2; hf_hub/0.36.2; python/3.11.7", "huggingface-cli 0.36.2 (huggingface_hub)"),
        ("unknown/None; hf_hub/2.4.0; python/3.11.7; torch/2.13.0", "huggingface_hub 2.4.0, torch 2.13.0"),
        ("curl/8.5.0", "curl 8.5.0"),
        ("hf/9.9", "hf 9.9"),
        ("hf/2.4.0 <script>", "hf/2.4.0 <script>"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("a/" + "9" * 60, "a/" + "9" * 60),
        ("名前/1.0", "名前 1.0"),
    ],
)
def test_client_is_said_in_plain_words_or_not_at_all(agent: str, words: str) -> None:
    assert client_words(agent) == words
