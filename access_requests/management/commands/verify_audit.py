"""`manage.py verify_audit`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand, moment
from access_requests.services.event_log.verify import verify_log


class Command(OperatorCommand):
    help = "Check the event log: its chain, its anchors, the licence texts. If anything is wrong, exits with status 1 and prints a sentence for each problem."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect", default="", metavar="N:HASH", help="a head of the log that was kept elsewhere"
        )

    def answer(self, *, expect: str, **options: Any) -> Answer:
        report = verify_log(expect=expect)
        number, hash = report.head
        data = {
            "ok": report.ok,
            "events": report.events,
            "first_bad": report.first_bad,
            "head": f"{number}:{hash}",
            "erased": report.erased,
            "anchors": report.anchors,
            "last_anchor": moment(report.last_anchor) if report.last_anchor else None,
            "problems": report.problems,
        }
        if not report.ok:
            return Answer(data, "\n".join(report.problems), ok=False)
        if report.last_anchor is None:
            anchored = "No anchor has been due yet."
        else:
            count = f"{report.anchors} anchor{' fits' if report.anchors == 1 else 's fit'}"
            anchored = f"{count} it, the last of {moment(report.last_anchor)}."
        erased = f" {report.erased} texts were erased." if report.erased else ""
        whole = f"The chain of {report.events} events is whole and ends at {number}:{hash}."
        return Answer(data, f"{whole} {anchored}{erased}")
