"""What each trusted issuer of CI identities calls things in its tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from access_requests.errors import Invalid


@dataclass(frozen=True)
class Job:
    """A CI job as its issuer vouches for it."""

    repository: str
    repository_id: str
    ref: str
    environment: str
    workflow: str
    shown: dict[str, str]  # what is kept of it in the log


@dataclass(frozen=True)
class Dialect:
    """The names of an issuer's claims. `owner` must be the repository's first part: a token that contradicts itself is refused."""

    title: str
    repository: str
    owner: str
    repository_id: str
    ref: str
    workflow: str
    workflow_file: Callable[[str, str], str]
    kept: tuple[str, ...]
    example: str


def _github_workflow(claim: str, repository: str) -> str:
    """`octo/hello/.github/workflows/ci.yml@refs/heads/main` -> `.github/workflows/ci.yml`; another repository's is none of ours."""
    path, _, _ = claim.partition("@")
    prefix = f"{repository}/".lower()
    return path[len(prefix) :] if path.lower().startswith(prefix) else ""


def _gitlab_workflow(claim: str, repository: str) -> str:
    """`gitlab.com/group/project//.gitlab-ci.yml@refs/heads/main` -> `.gitlab-ci.yml`."""
    path, _, _ = claim.partition("@")
    project, _, file = path.partition("//")
    return file if project.lower().endswith(f"/{repository}".lower()) else ""


DIALECTS = {
    "github": Dialect(
        title="GitHub Actions",
        repository="repository",
        owner="repository_owner",
        repository_id="repository_id",
        ref="ref",
        workflow="workflow_ref",
        workflow_file=_github_workflow,
        kept=("sub", "repository", "ref", "sha", "workflow_ref", "event_name", "actor", "run_id"),
        example=".github/workflows/evaluate.yml",
    ),
    "gitlab": Dialect(
        title="GitLab CI",
        repository="project_path",
        owner="namespace_path",
        repository_id="project_id",
        ref="ref_path",
        workflow="ci_config_ref_uri",
        workflow_file=_gitlab_workflow,
        kept=("sub", "project_path", "ref_path", "sha", "ci_config_ref_uri", "pipeline_source", "user_login", "job_id"),
        example=".gitlab-ci.yml",
    ),
}  # fmt: skip
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){1,20}")


def dialect_of(issuer: str) -> Dialect | None:
    """How that issuer speaks, if the operator lets it in (`GATEHOUSE_OIDC_ISSUERS`)."""
    return DIALECTS.get(settings.GATEHOUSE_OIDC_ISSUERS.get(issuer, ""))


def issuers() -> dict[str, str]:
    """Issuer -> what people call it, for a choice."""
    titles = {issuer: DIALECTS[name].title for issuer, name in settings.GATEHOUSE_OIDC_ISSUERS.items()}
    doubled = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    return {issuer: f"{title} ({issuer})" if title in doubled else title for issuer, title in titles.items()}


def read_job(claims: dict[str, Any]) -> Job:
    """The job behind verified claims; `Invalid` where they lack something or contradict each other."""
    dialect = dialect_of(claims["iss"])
    if dialect is None:
        raise Invalid("The issuer is not trusted.")
    repository = _text(claims, dialect.repository)
    owner, repository_id = _text(claims, dialect.owner), _text(claims, dialect.repository_id)
    if not REPOSITORY.fullmatch(repository) or not repository_id:
        raise Invalid("The identity names no repository.")
    if repository.rpartition("/")[0].lower() != owner.lower():
        raise Invalid(
            f"The identity contradicts itself: {repository} is not a repository of {owner[:100]!r}."
        )
    return Job(
        repository=repository,
        repository_id=repository_id,
        ref=_text(claims, dialect.ref),
        environment=_text(claims, "environment"),
        workflow=dialect.workflow_file(_text(claims, dialect.workflow), repository),
        shown={name: _text(claims, name) for name in dialect.kept if name in claims},
    )


def _text(claims: dict[str, Any], name: str) -> str:
    """A claim as text; numbers are written out, anything else, or what cannot be seen, counts as absent."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value)
    return text if text.isprintable() and len(text) <= 500 else ""
