"""Commands that a person pastes: the tools they already have, pointed at this portal."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from access_requests.models import GatedModel

PLACEHOLDER = "gth_YOUR_TOKEN"


@dataclass(frozen=True)
class Command:
    """`title` heads the box, `note` says what it does or needs."""

    title: str
    text: str
    note: str = ""


def commands(model: GatedModel, *, secret: str = "") -> list[Command]:
    """From the environment to a running model; with `secret` they work as they are."""
    endpoint, repo_id = settings.GATEHOUSE_URL, model.repo_id
    token = (secret or PLACEHOLDER) if model.is_gated else ""
    environment = f"export HF_ENDPOINT={endpoint}" + (f"\nexport HF_TOKEN={token}" if token else "")
    given = f'    token="{token}",\n' if token else ""
    header = '-H "Authorization: Bearer $HF_TOKEN" ' if token else ""
    return [
        Command("Environment", environment, "First, in the shell that runs the others."),
        Command(
            "Command line",
            f"hf download {repo_id}",
            "Repeat it after a break: whole files are kept, and a broken one starts again from its beginning.",
        ),
        Command(
            "Python",
            "from huggingface_hub import snapshot_download\n\n"
            f'folder = snapshot_download(\n    "{repo_id}",\n    endpoint="{endpoint}",\n{given})',
            "Needs no environment: the address stands in the call.",
        ),
        Command(
            "transformers",
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")\n'
            f'model = AutoModelForCausalLM.from_pretrained("{repo_id}")',
        ),
        Command("vLLM", f"vllm serve {repo_id}"),
        Command(
            "curl",
            f"curl -L -C - -O {header}\\\n  {endpoint}/{repo_id}/resolve/main/config.json",
            "One file; -C - resumes a part that is there already.",
        ),
    ]
