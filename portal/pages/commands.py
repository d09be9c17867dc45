"""Commands to copy: tools that people already have, pointed at this portal."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from access_requests.models import GatedModel

PLACEHOLDER = "gth_YOUR_TOKEN"
PLACEHOLDER_ID = "NAMESPACE/NAME"


@dataclass(frozen=True)
class Command:
    """A command in a box: `title` heads the box, `note` says what the command does or needs."""

    title: str
    text: str
    note: str = ""


def commands(model: GatedModel) -> list[Command]:
    """Return the commands for a model's page, with a placeholder where a token is needed."""
    return commands_for(model.repo_id, token=PLACEHOLDER if model.is_gated else "")


def commands_for(repo_id: str, *, token: str) -> list[Command]:
    """Return commands from setting up the environment to running the model.

    With a real `token` they work as they are.
    """
    endpoint = settings.GATEHOUSE_URL
    given = f'    token="{token}",\n' if token else ""
    header = '-H "Authorization: Bearer $HF_TOKEN" ' if token else ""
    return [
        _environment_command(token),
        Command(
            _("Command line"),
            f"hf download {repo_id}",
            _(
                "Repeat it after an interruption: complete files are kept, and an incomplete file starts again."
            ),
        ),
        Command(
            "Python",
            "from huggingface_hub import snapshot_download\n\n"
            f'folder = snapshot_download(\n    "{repo_id}",\n    endpoint="{endpoint}",\n{given})',
            _("Needs no environment variables: the address is in the call."),
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
            f"curl -fL -C - -O {header}\\\n  {endpoint}/{repo_id}/resolve/main/config.json",
            _("One file; -C - resumes a partial download."),
        ),
    ]


def deciding_commands(repo_id: str, *, token: str) -> list[Command]:
    """Return the commands for a reviewer's token: reading the queue and deciding, by program."""
    endpoint = settings.GATEHOUSE_URL
    return [
        _environment_command(token),
        Command(
            "Python",
            "from huggingface_hub import HfApi\n\n"
            f'api = HfApi(endpoint="{endpoint}", token="{token}")\n'
            f'for asked in api.list_pending_access_requests("{repo_id}"):\n'
            "    print(asked.username, asked.fields)\n"
            f'# api.accept_access_request("{repo_id}", "USER")\n'
            f'# api.reject_access_request("{repo_id}", "USER", rejection_reason="Why, in words for the person")',
            _("Needs no environment variables: the address is in the call."),
        ),
        Command(
            "curl",
            'curl -H "Authorization: Bearer $HF_TOKEN" '
            f"\\\n  {endpoint}/api/models/{repo_id}/user-access-request/pending",
            _("The waiting requests, as JSON."),
        ),
        Command(
            _("Upload"),
            f"export HF_HUB_DISABLE_XET=1\nhf upload {repo_id} ./folder .",
            _("For owners of the model. The upload is held until an owner publishes it."),
        ),
        Command(_("Command line"), f"hf download {repo_id}", _("The token can also read.")),
    ]


def _environment_command(token: str) -> Command:
    lines = [f"export HF_ENDPOINT={settings.GATEHOUSE_URL}"] + ([f"export HF_TOKEN={token}"] if token else [])
    return Command(
        pgettext("variables of a shell", "Environment"),
        "\n".join(lines),
        _("Run this first, in the same shell as the others."),
    )
