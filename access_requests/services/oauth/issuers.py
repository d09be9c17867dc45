"""Read the claims in tokens of each trusted issuer of CI identities."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from access_requests.errors import Invalid


@dataclass(frozen=True)
class Job:
    """A CI job, as its issuer describes it."""

    repository: str
    repository_id: str
    ref: str
    environment: str
    workflow: str
    shown: dict[str, str]  # what the log keeps of it


@dataclass(frozen=True)
class Dialect:
    """The names of an issuer's claims.

    `owner` must be the first part of the repository, or the token is refused.
    """

    title: str
    repository: str
    owner: str
    repository_id: str
    ref: str
    workflow: str
    workflow_file: Callable[[str, str, str], str]
    kept: tuple[str, ...]
    example: str


def _github_workflow(claim: str, repository: str, _issuer: str) -> str:
    """Return `.github/workflows/ci.yml` for `octo/hello/.github/workflows/ci.yml@refs/heads/main`.

    Return "" for another repository. A workflow is directly in that folder, and its name ends in .yml or
    .yaml (https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax).
    """
    path = _path_of(claim)
    owner, file = path[: len(repository) + 1], path[len(repository) + 1 :]
    return file if _is_same(owner, f"{repository}/") and GITHUB_WORKFLOW.fullmatch(file) else ""


def _gitlab_workflow(claim: str, repository: str, issuer: str) -> str:
    """Return `.gitlab-ci.yml` for `gitlab.com/group/project//.gitlab-ci.yml@refs/heads/main`.

    Return "" for another project. The project comes after the host and, if self-hosted, the path of that
    GitLab (https://docs.gitlab.com/ci/secrets/id_token_authentication/).
    """
    path = _path_of(claim)
    place, _, file = path.partition("//")
    host, _, project = place.partition("/")
    below = f"{urlsplit(issuer).path.strip('/')}/{repository}".lstrip("/")
    return file if HOST.fullmatch(host) and _is_same(project, below) and GITLAB_FILE.fullmatch(file) else ""


def _path_of(claim: str) -> str:
    """Return the path of `path@refs/...`; "" if the claim has no ref, or could be split in more than one place.

    File names and refs may contain an `@` (git-check-ref-format), so neither the first nor the last `@` is
    reliable.
    """
    path, _, ref = claim.partition(REF_MARK)
    is_plain = claim.count(REF_MARK) == 1 and REF.fullmatch(ref)
    return path if is_plain else ""


def _is_same(given: str, wanted: str) -> bool:
    """Compare names as GitHub and GitLab do: ASCII letters regardless of case, and no look-alikes."""
    return given.isascii() and given.lower() == wanted.lower()


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
REF_MARK = "@refs/"
REF = re.compile(r"(heads|tags|pull|merge-requests|pipelines|environments|keep-around)/.+")
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?")
GITHUB_WORKFLOW = re.compile(r"\.github/workflows/[^/]+\.ya?ml")
GITLAB_FILE = re.compile(r"(?!/)(?!.*//).*[^/]")
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){1,20}")


def dialect_of(issuer: str) -> Dialect | None:
    """Return the dialect of an issuer, if the operator allows it (`GATEHOUSE_OIDC_ISSUERS`)."""
    return DIALECTS.get(settings.GATEHOUSE_OIDC_ISSUERS.get(issuer, ""))


def issuers() -> dict[str, str]:
    """Return issuer -> display name, for a choice field."""
    titles = {issuer: DIALECTS[name].title for issuer, name in settings.GATEHOUSE_OIDC_ISSUERS.items()}
    doubled = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    return {issuer: f"{title} ({issuer})" if title in doubled else title for issuer, title in titles.items()}


@dataclass(frozen=True)
class Kind:
    """The type of a claim: text up to a length, whole seconds since 1970, or a number or text."""

    named: str
    types: tuple[type, ...]
    longest: int

    def fits(self, value: Any) -> bool:
        """Return whether a value is of this type; True and False are not numbers."""
        if isinstance(value, bool) or not isinstance(value, self.types):
            return False
        if isinstance(value, int) and value.bit_length() > LARGEST_NUMBER:
            return False  # as decimal text it could be longer than Python converts
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            return False  # half a surrogate pair, which no table and no hash accepts
        return len(str(value)) <= self.longest and not (isinstance(value, int) and value < 0)


LARGEST_NUMBER = 200  # bits
MOMENT = Kind("a whole number of seconds", (int,), 12)
TEXT = Kind("text of up to 500 characters", (str,), 500)
LONG_TEXT = Kind("text of up to 2000 characters", (str,), 2000)
NUMBER = Kind("a number or text of up to 40 characters", (int, str), 40)
# Every claim that is read, for all issuers. Others are ignored.
CLAIMS = {
    **dict.fromkeys(("exp", "iat", "nbf"), MOMENT),
    **dict.fromkeys(("iss", "aud", "jti"), TEXT),
    **dict.fromkeys(("sub", "workflow_ref", "ci_config_ref_uri"), LONG_TEXT),
    **dict.fromkeys(
        ("repository", "repository_owner", "ref", "environment", "sha", "event_name", "actor"), TEXT
    ),
    **dict.fromkeys(("project_path", "namespace_path", "ref_path", "pipeline_source", "user_login"), TEXT),
    **dict.fromkeys(("repository_id", "project_id", "run_id", "job_id"), NUMBER),
}
NEEDED = ("exp", "iat", "iss", "aud", "sub", "jti")


def check_claims(claims: dict[str, Any]) -> None:
    """Raise `Invalid` for claims of another type than in `CLAIMS`; optional ones may also be null."""
    for name, kind in CLAIMS.items():
        value = claims.get(name)
        if (value is not None or name in NEEDED) and not kind.fits(value):
            raise Invalid(f"The identity is not valid: its claim {name} is not {kind.named}.")
    if not claims["jti"] or not claims["sub"]:
        raise Invalid("The identity has an empty id (jti) or subject (sub).")


def read_job(claims: dict[str, Any]) -> Job:
    """Return the job behind verified claims.

    Raises `Invalid` if claims are missing or contradict each other.
    """
    dialect = dialect_of(claims["iss"])
    if dialect is None:
        raise Invalid("The issuer is not trusted.")
    check_claims(claims)
    repository = _read_claim(claims, dialect.repository)
    owner, repository_id = _read_claim(claims, dialect.owner), _read_claim(claims, dialect.repository_id)
    if not REPOSITORY.fullmatch(repository) or not repository_id:
        raise Invalid("The identity names no repository.")
    if repository.rpartition("/")[0].lower() != owner.lower():
        raise Invalid(
            f"The identity contradicts itself: {repository} is not a repository of {owner[:100]!r}."
        )
    return Job(
        repository=repository,
        repository_id=repository_id,
        ref=_read_claim(claims, dialect.ref),
        environment=_read_claim(claims, "environment"),
        workflow=dialect.workflow_file(_read_claim(claims, dialect.workflow), repository, claims["iss"]),
        shown={name: _read_claim(claims, name) for name in dialect.kept if name in claims},
    )


def _read_claim(claims: dict[str, Any], name: str) -> str:
    """Return a claim as text: numbers become text, and text with invisible characters counts as missing."""
    value = claims.get(name)
    text = "" if value is None else str(value)
    return text if CLAIMS[name].fits(value) and text.isprintable() else ""
