"""Describe a client by its `User-Agent`, in plain words."""

from __future__ import annotations

import re

from django import template

register = template.Library()

PRODUCT = re.compile(r"([\w.-]{1,40})/([\w.+-]{1,40})")
COMMAND_LINES = {"hf", "huggingface-cli"}
SAY_NOTHING = {"unknown", "python", "httpx", "httpx2", "python-httpx", "python-httpx2", "python-requests", "python-urllib3", "python-urllib"}  # fmt: skip


@register.filter
def client_words(agent: str) -> str:
    """Return what a `User-Agent` says in plain words; "" if it names only an HTTP library.

    It is the client's own claim and proves nothing. Text that is not a list of products is returned as it is.
    """
    parts = [part for part in re.split(r"[; ]+", agent.strip()) if part]
    named = [PRODUCT.fullmatch(part) for part in parts]
    if not all(named):
        return agent
    products = {found[1].lower(): found[2] for found in named if found}
    hub = products.pop("hf_hub", "")
    lines = [name for name in products if name in COMMAND_LINES]
    words = [f"{name} {products[name]}" for name in products if name not in SAY_NOTHING | COMMAND_LINES]
    if not hub:
        return ", ".join([f"{name} {products[name]}" for name in lines] + words)
    return ", ".join([f"{lines[0]} {hub} (huggingface_hub)" if lines else f"huggingface_hub {hub}", *words])
