"""Choose the recovery that makes a model's weights: shared rows, plans from headers, and requests for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.errors import Conflict, Invalid
from access_requests.models import GatedModel
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.leases import FREE
from access_requests.services.locks import share_store
from access_requests.services.queue import enqueue_on_commit
from model_ops.enums import DeliveryState, Method, RecoveryState, SourceKind
from model_ops.models import Delivery, ModelWeights, Recovery, WeightSource
from model_ops.recovery.errors import RecoveryError
from model_ops.recovery.formats.folder import pin_folder
from model_ops.recovery.inspection.tree import inspect_tree
from model_ops.services.recoveries.copy_files import listed_files
from model_ops.services.recoveries.engine import plan_recovery, understood
from model_ops.services.recoveries.leases import NOT_WAITING, hurry
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.sources.rights import check_attached
from model_ops.services.sources.spec import check_unchanged, fetched_folder, resolve_source

if TYPE_CHECKING:
    from portal.accounts.models import User

RUN_RECOVERY = "model_ops.tasks.run_recovery"
ENDED_BADLY = (RecoveryState.FAILED, RecoveryState.REFUSED, RecoveryState.CANCELLED)
PLANNED_LATER = "The plan is made after the repositories are fetched and before anything is written."


@dataclass(frozen=True)
class PreparedWeights:
    """Sources that were found and a plan that was not refused; nothing of a model was touched."""

    inputs: dict[str, Any]
    plan: dict[str, Any]


def prepare_weights(
    *,
    base: str = "",
    diff: str = "",
    files: str = "",
    options: Mapping[str, Any] | None = None,
    in_admin: bool = False,
    actor: User | None = None,
    namespace: str = "",
) -> PreparedWeights:
    """Look at the sources and plan; every refusal is one sentence.

    `namespace` is that of the model: an owner in the admin can only name sources assigned to it.
    `options` are the engine's, by name, with its defaults; published files have no options.
    """
    inputs = resolve_inputs(
        base=base, diff=diff, files=files, options=options or {}, in_admin=in_admin, actor=actor,
        namespace=namespace,
    )  # fmt: skip
    return PreparedWeights(inputs, make_plan(inputs))


def attach_weights(
    *, model: GatedModel, prepared: PreparedWeights, actor: User | None = None
) -> ModelWeights:
    """Make these the model's current weights and publish what there is, in one transaction.

    Sources that `actor` may not use for this model are refused here too.
    Models with the same inputs share one recovery; a ready one is published for this model at once, otherwise
    `main` keeps what it has. The new recovery is wanted as soon as someone may read the model.
    """
    with recorded():
        share_store()
        named = [source for name in ("base", "diff", "files") if (source := prepared.inputs.get(name))]
        by_owner = check_attached(sources=named, model=model, actor=actor)
        recovery = lock_shared_row(prepared)
        weights = _make_current(model, recovery, by_owner=by_owner)
        sources = [source.spec for source in (recovery.base, recovery.diff, recovery.files) if source]
        append_event(
            kind="weights.attached",
            actor=actor,
            by="operator",
            model=model,
            data={"recovery": recovery.pk, "sources": sources},
        )
        publish_revision(model=model, actor=actor)
    return weights


def resolve_inputs(
    *,
    base: str,
    diff: str,
    files: str,
    options: Mapping[str, Any],
    in_admin: bool = False,
    actor: User | None = None,
    namespace: str = "",
) -> dict[str, Any]:
    """Return the fields of a recovery row from the given texts."""
    base, diff, files = base.strip(), diff.strip(), files.strip()
    resolve = partial(resolve_source, in_admin=in_admin, actor=actor, namespace=namespace)
    if files and not (base or diff):
        return {
            "method": Method.COPY,
            "files": resolve(text=files, role="files"),
        }
    if not (base and diff) or files:
        raise Invalid(_("Give either a base and a diff, or files that are published as they are."))
    chosen = understood(options)
    return {
        "method": Method.RECOVER,
        "base": resolve(text=base, role="base"),
        "diff": resolve(text=diff, role="diff"),
        "options": chosen,
    }


def options_kept(*, old: Mapping[str, Any], chosen: Mapping[str, Any], new_sources: bool) -> dict[str, Any]:
    """Keep options that are not given again, except the sum if the sources change; keep none for a new method."""
    method = old.get("method", "add")
    kept = dict(old) if chosen.get("method", method) == method else {}
    if new_sources or "expected_sum" in chosen:
        kept = {name: value for name, value in kept.items() if name not in {"expected_sum", "sum_tolerance"}}
    return {**kept, **chosen}


def make_plan(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the plan as it is stored and shown: `{"text", ...}`; repositories that are not fetched are planned later."""
    sources = [inputs[name] for name in ("base", "diff", "files") if inputs.get(name)]
    missing = [
        source for source in sources if source.kind == SourceKind.HUB and not fetched_folder(source).is_dir()
    ]
    if missing:
        return {"text": PLANNED_LATER, "fetch": [source.spec for source in missing]}
    if inputs["method"] == Method.COPY:
        return plan_copy(inputs["files"])
    for source in sources:
        if source.kind == SourceKind.FOLDER:
            pin_folder(source.spec)
    return plan_recovery(
        base=fetched_folder(inputs["base"]),
        diff=fetched_folder(inputs["diff"]),
        options=inputs["options"],
    )


def plan_copy(source: WeightSource) -> dict[str, Any]:
    """Return a plan that publishes every file of the folder as it is, after a check."""
    if source.kind == SourceKind.FOLDER:
        check_unchanged(source)
    folder = fetched_folder(source)
    sizes = listed_files(folder)
    try:
        notes = inspect_tree(folder, sizes, "upload" if source.kind == SourceKind.UPLOAD else "files")
    except RecoveryError as error:
        raise Invalid(str(error)) from error
    total = sum(sizes.values())
    lines = [f"{len(sizes)} files are published as they are, {total:,} bytes:"]
    lines += [f"  {path}  {size:,}" for path, size in sizes.items()]
    lines += [f"note: {note}" for note in notes]
    return {"text": "\n".join(lines), "files": sizes, "bytes_written": total, "notes": list(notes)}


def lock_shared_row(prepared: PreparedWeights) -> Recovery:
    """Return the one row with these inputs, locked; renew its plan while nothing was made by it.

    A recovery that ended badly is planned again, since these inputs were checked again and accepted.
    """
    wanted: dict[str, Any] = {"base": None, "diff": None, "files": None, "options": {}} | prepared.inputs
    missing = {f"{name}__isnull": True for name, value in wanted.items() if value is None}
    given = {name: value for name, value in wanted.items() if value is not None}
    recovery, created = Recovery.objects.get_or_create(
        **missing, **given, defaults=prepared.inputs | {"plan": prepared.plan}
    )
    recovery = Recovery.objects.select_for_update(no_key=True, of=("self",)).get(pk=recovery.pk)
    if not created and recovery.state != RecoveryState.READY and "fetch" not in prepared.plan:
        recovery.plan = prepared.plan
        recovery.save(update_fields=["plan"])
    if _plan_anew(recovery, wanted_at=None):
        recovery.refresh_from_db()
    return recovery


def _plan_anew(recovery: Recovery, *, wanted_at: datetime | None) -> bool:
    """Set a recovery that ended badly back to planned, and its failed deliveries back to waiting."""
    moved = Recovery.objects.filter(pk=recovery.pk, state__in=ENDED_BADLY).update(
        state=RecoveryState.PLANNED,
        wanted_at=wanted_at,
        error="",
        stage="",
        **FREE,
        **NOT_WAITING,
    )
    if moved:
        waiting = Q(grant__model__weights__recovery=recovery, grant__model__weights__replaced_at=None)
        Delivery.objects.filter(waiting, state=DeliveryState.FAILED).update(state=DeliveryState.WAITING)
    return bool(moved)


def _make_current(model: GatedModel, recovery: Recovery, *, by_owner: bool) -> ModelWeights:
    """Return the model's current weights; a superuser or operator who names the same sources takes responsibility."""
    GatedModel.objects.select_for_update(no_key=True).get(pk=model.pk)
    current = ModelWeights.objects.filter(model=model, replaced_at=None).first()
    if current and current.recovery_id == recovery.pk:
        if current.by_owner and not by_owner:
            ModelWeights.objects.filter(pk=current.pk).update(by_owner=False)
        return current
    ModelWeights.objects.filter(model=model, replaced_at=None).update(replaced_at=timezone.now())
    return ModelWeights.objects.create(model=model, recovery=recovery, by_owner=by_owner)


def want_recovery(*, recovery: Recovery) -> None:
    """Queue a planned recovery because someone waits for it; other states need nothing."""
    planned = Recovery.objects.filter(pk=recovery.pk, state=RecoveryState.PLANNED)
    planned.filter(wanted_at=None).update(wanted_at=timezone.now())
    if planned.filter(waiting_for="").exists():
        enqueue_on_commit(RUN_RECOVERY, recovery.pk)


def start_recovery(*, recovery: Recovery, actor: User | None = None) -> Recovery:
    """Start a planned recovery, or retry one that ended badly or waits; for the command *recover*."""
    if recovery.state in ENDED_BADLY or recovery.waiting_for:
        return retry(recovery=recovery, actor=actor)
    want_recovery(recovery=recovery)
    recovery.refresh_from_db()
    return recovery


def cancel_recovery(*, recovery: Recovery, actor: User | None = None) -> Recovery:
    """Stop a waiting or running recovery for every model that shares it; finished shards are kept.

    The worker loses its lease and stops within about a second. People who wait keep waiting, for a retry.
    """
    with recorded():
        waits = Q(state=RecoveryState.PLANNED, wanted_at__isnull=False)
        stopped = Recovery.objects.filter(waits | Q(state=RecoveryState.RUNNING), pk=recovery.pk).update(
            state=RecoveryState.CANCELLED,
            wanted_at=None,
            finished_at=Now(),
            error="",
            stage="",
            **FREE,
            **NOT_WAITING,
        )
        if not stopped:
            raise Conflict(
                _("Recovery %(recovery)s neither waits nor runs: there is nothing to cancel.")
                % {"recovery": recovery.pk}
            )
        _append_for_each(recovery, "recovery.cancelled", actor)
    recovery.refresh_from_db()
    return recovery


def _append_for_each(recovery: Recovery, kind: str, actor: User | None) -> None:
    """Append an event for each model that shares the recovery."""
    for weights in recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id"):
        append_event(
            kind=kind,
            actor=actor,
            by="operator",
            model=weights.model,
            data={"recovery": recovery.pk},
        )


def retry(*, recovery: Recovery, actor: User | None = None) -> Recovery:
    """Plan and queue a recovery that failed, was refused or cancelled, or one that waits; finished shards are kept."""
    with recorded():
        if not (_plan_anew(recovery, wanted_at=timezone.now()) or hurry(recovery=recovery)):
            raise Conflict(
                _("Recovery %(recovery)s has not failed: there is nothing to try again.")
                % {"recovery": recovery.pk}
            )
        _append_for_each(recovery, "recovery.retried", actor)
        enqueue_on_commit(RUN_RECOVERY, recovery.pk)
    recovery.refresh_from_db()
    return recovery
