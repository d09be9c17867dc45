"""`manage.py recoveries`"""

from __future__ import annotations

from typing import Any

from access_requests.management.operator import Answer, OperatorCommand
from model_ops.models import ModelWeights


class Command(OperatorCommand):
    help = "Lists the recovery behind each model's current weights."

    def answer(self, **options: Any) -> Answer:
        current = ModelWeights.objects.filter(replaced_at=None).select_related("model", "recovery")
        rows = [
            {
                "id": weights.recovery.pk,
                "model": weights.model.repo_id,
                "state": weights.recovery.state,
                "percent": weights.recovery.percent,
                "waiting_for": weights.recovery.waiting_for or None,
                "error": weights.recovery.error or None,
            }
            for weights in current.order_by("recovery", "model__repo_id")
        ]
        lines = [
            f"{row['id']:>5}  {'waiting' if row['waiting_for'] else row['state']:<9}  {row['percent']:>3} %  {row['model']}"
            + (f"  {row['error']}" if row["error"] else "")
            for row in rows
        ]
        return Answer({"recoveries": rows}, "\n".join(lines) or "No model has weights yet.")
