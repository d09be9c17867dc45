"""`manage.py source_rights (list | assign PATH NAMESPACE | withdraw PATH NAMESPACE | allow REPO_ID [NAMESPACE] | forbid REPO_ID [NAMESPACE])`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.errors import Invalid
from access_requests.management.operator import Answer, OperatorCommand
from model_ops.models import AllowedRepository, AssignedFolder
from model_ops.services.sources import assign

DOES = ("list", "assign", "withdraw", "allow", "forbid")


class Command(OperatorCommand):
    help = "Says which folders and Hub repositories the owners of a namespace may name as weight sources."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=DOES, metavar="|".join(DOES))
        parser.add_argument("name", nargs="?", default="", metavar="PATH|REPO_ID")
        parser.add_argument(
            "namespace",
            nargs="?",
            default="",
            metavar="NAMESPACE",
            help="allow and forbid: empty for every one",
        )

    def answer(self, *, what: str, name: str, namespace: str, **options: Any) -> Answer:
        if what == "list":
            return listed()
        if not name or (not namespace and what in {"assign", "withdraw"}):
            wanted = "PATH NAMESPACE" if what in {"assign", "withdraw"} else "REPO_ID [NAMESPACE]"
            raise Invalid(f"Write source_rights {what} {wanted}.")
        does = {
            "assign": self._assign,
            "withdraw": self._withdraw,
            "allow": self._allow,
            "forbid": self._forbid,
        }
        return does[what](name, namespace)

    def _assign(self, path: str, namespace: str) -> Answer:
        made = assign.assign_folder(path=path, namespace=namespace)
        lines = [f"Owners in {made.namespace} may name {made.path} and every folder below it."]
        lines += [
            f"It overlaps with {other.path}, which is assigned to {other.namespace}: owners of one can read the other."
            for other in assign.others_who_may(made)
        ]
        return Answer({"folder": made.path, "namespace": made.namespace}, "\n".join(lines))

    def _withdraw(self, path: str, namespace: str) -> Answer:
        found = assign.find_assignment(path=path, namespace=namespace)
        assign.withdraw_folder(assigned=found)
        data = {"folder": found.path, "namespace": found.namespace}
        return Answer(data, f"{found.path} is no longer assigned to {found.namespace}.")

    def _allow(self, repo_id: str, namespace: str) -> Answer:
        made = assign.allow_repository(repo_id=repo_id, namespace=namespace)
        return Answer(_told(made), f"{made} may be fetched with the portal's Hub token.")

    def _forbid(self, repo_id: str, namespace: str) -> Answer:
        found = assign.find_allowance(repo_id=repo_id, namespace=namespace)
        assign.withdraw_repository(allowed=found)
        return Answer(_told(found), f"{found}: no longer fetched with the portal's Hub token.")


def listed() -> Answer:
    """Return all assignments and allowances, and the folders that models use without an assignment."""
    folders, repositories = list(AssignedFolder.objects.all()), list(AllowedRepository.objects.all())
    without = assign.folders_without_assignment()
    data = {
        "folders": [{"folder": one.path, "namespace": one.namespace} for one in folders],
        "repositories": [_told(one) for one in repositories],
        "without_assignment": [{"folder": folder, "model": model} for folder, model in without],
    }
    lines = [f"folder      {one}" for one in folders] + [f"repository  {one}" for one in repositories]
    lines += [f"unassigned  {folder}, which {model} is made from" for folder, model in without]
    return Answer(data, "\n".join(lines) or "Nothing is assigned or allowed.")


def _told(allowed: AllowedRepository) -> dict[str, str]:
    return {"repository": allowed.repo_id, "namespace": allowed.namespace, "hub": allowed.endpoint}
