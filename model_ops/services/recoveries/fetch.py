"""Prepare the sources of a recovery: fetch Hub repositories once, and check that folders are unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from model_ops.child_environment import FETCH
from model_ops.enums import Method, SourceKind, WaitsFor
from model_ops.models import Recovery, WeightSource
from model_ops.remote_hub import fetch_repository
from model_ops.services.recoveries.disk_space import looks_unmounted
from model_ops.services.recoveries.failures import RunFailed, RunWaits
from model_ops.services.recoveries.leases import Lease, with_database
from model_ops.services.recoveries.workspace import run_for
from model_ops.services.sources.rights import check_use
from model_ops.services.sources.spec import check_unchanged, fetched_folder, hub_token, is_withheld
from model_ops.services.sources.upload import lay_out


def fetch_sources(recovery: Recovery, lease: Lease, *, before_fetching: Callable[[], object]) -> None:
    """Check that the sources may still be read, and fetch them. Raises what refuses or fails the run.

    Calls `before_fetching` if there is something to fetch.
    """
    bound = check_use(recovery)
    for source in filter(None, (recovery.base, recovery.diff, recovery.files)):
        if source.kind == SourceKind.FOLDER:
            if looks_unmounted(Path(source.spec)):
                raise RunWaits(
                    WaitsFor.SOURCE,
                    f"The folder {source.spec} is not there, and the folder above it is empty: check that its disk is "
                    "mounted.",
                )
            check_unchanged(source, bound=bound)
        elif source.kind == SourceKind.UPLOAD:
            lay_out(source)
        elif not fetched_folder(source).is_dir():
            before_fetching()
            _fetch_repository(source, everything=recovery.method == Method.COPY, lease=lease)


def _fetch_repository(source: WeightSource, *, everything: bool, lease: Lease) -> None:
    folder = fetched_folder(source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = [
        "-m",
        "model_ops.remote_hub.fetch_repository",
        source.endpoint,
        source.repo_id,
        source.commit,
        str(folder),
    ]
    home = Path(settings.WEIGHTS_ROOT) / "sources" / ".hub"
    environment = {
        fetch_repository.WITHHELD: "1" if is_withheld(source.endpoint, allowed=source.with_token) else "0",
        fetch_repository.REDIRECTS: " ".join(settings.GATEHOUSE_HUB_REDIRECTS),
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",  # its own cache would hold every byte a second time
        fetch_repository.OWN: "1" if source.endpoint == settings.GATEHOUSE_HUB_ENDPOINT else "0",
    }
    ended = run_for(
        [*arguments, "all" if everything else "weights"],
        lease,
        allowed=FETCH,
        environment=environment,
        told=hub_token(source.endpoint, allowed=source.with_token) or "",
    )
    if ended.status:
        raise RunFailed(ended.last_words or f"{source} could not be fetched: try again.")
    if checked := ended.result.get("checked"):  # nothing to do if another recovery fetched it in the meantime
        with_database(
            lambda: WeightSource.objects.filter(pk=source.pk).update(checked=str(checked)[:300]),
            give_up=lease.lost,
        )
