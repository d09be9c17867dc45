"""`manage.py verify_audit`"""

from __future__ import annotations

from typing import Any

from access_requests.management.operator import Answer, OperatorCommand
from access_requests.services.audit import verify_chain


class Command(OperatorCommand):
    help = "Recomputes the event log's hash chain; status 1 and the event's number where it is broken."

    def answer(self, **options: Any) -> Answer:
        report = verify_chain()
        data = {"ok": report.ok, "events": report.events, "first_bad": report.first_bad}
        if report.ok:
            return Answer(data, f"The chain of {report.events} events is whole.")
        text = (
            f"The chain of {report.events} events is broken at event {report.first_bad}: it, or the one before it, "
            "was changed or removed; compare with a backup."
        )
        return Answer(data, text, ok=False)
