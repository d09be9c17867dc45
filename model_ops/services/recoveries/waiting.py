"""Let recoveries wait that cannot continue: when to try again, when to give up, and whom to inform."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import ExpressionWrapper, F, QuerySet
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from access_requests.access.permissions import people_to_tell
from access_requests.services.delete_expired import kept_since
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.leases import FREE, from_now
from model_ops.enums import RecoveryState, ShardState, WaitsFor
from model_ops.models import Recovery, RecoveryShard
from model_ops.recovery.planning.plan import human
from model_ops.services.recoveries.disk_space import free_bytes, kept_bytes, missing_bytes, missing_bytes_of
from model_ops.services.recoveries.failures import MORE_MEMORY, RunWaits, end_badly
from model_ops.services.recoveries.leases import died

PAUSES = (15, 60, 240, 900)  # seconds before the second, third, fourth and every further try
LONGEST_ASKED = 3600  # seconds; even if a remote asks for a longer pause
# Reasons that waiting may not solve: tries without progress are counted, and after the last one the recovery fails.
BOUNDED = {WaitsFor.AGAIN, WaitsFor.MEMORY, WaitsFor.DEVICE}
MOST_TRIES = 5
# Owners are informed at once if someone has to fix something, otherwise if it lasts.
AT_ONCE = {WaitsFor.ROOM, WaitsFor.STORE, WaitsFor.SOURCE}
LASTS = timedelta(hours=1)
DIED = RunWaits(WaitsFor.AGAIN, "The worker that made the weights was killed.", advice=MORE_MEMORY)
FAR = 60  # seconds; if the next try is sooner, a starting worker does not bring it forward
MOST = 100  # rows per look


def wait(*, held: QuerySet[Recovery], why: RunWaits) -> bool:
    """Make the recovery wait, or fail if its tries are used up; inform its owners once.

    Return False and write nothing if `held` no longer finds the recovery.
    """
    recovery = held.select_related("base", "diff", "files").first()
    if recovery is None:
        return False
    kept = kept_bytes(recovery)
    needed, free = _room_needed(why, missing_bytes(recovery))
    with recorded():
        recovery = held.select_for_update(no_key=True, of=("self",)).first()
        if recovery is None:
            return False
        tries = 1 if kept > recovery.bytes_kept else recovery.tries + 1
        if _is_over(why, tries):
            return end_badly(
                held=held, state=RecoveryState.FAILED, sentence=_last_sentence(why, tries, recovery)
            )
        retry_at = _seconds_from_now(_pause_seconds(why, tries, needed, free))
        _note_wait(
            recovery, why, _wait_sentence(why, needed, free), retry_at=retry_at,
            state=RecoveryState.PLANNED, stage="", tries=tries,
            bytes_kept=max(kept, recovery.bytes_kept), bytes_needed=needed, **FREE,
        )  # fmt: skip
    return True


def rest(*, recovery_id: int) -> bool:
    """Make a recovery wait, or fail, if workers died with its run more than once; return whether that is so."""
    return wait(held=Recovery.objects.filter(died(), pk=recovery_id, run_id=""), why=DIED)


def wait_shard(*, held: QuerySet[RecoveryShard], why: RunWaits) -> bool:
    """Make one shard wait while its siblings continue. Return False, without a write, if `held` fails or tries are used up."""
    shard = held.select_related("recovery").first()
    if shard is None or _is_over(why, shard.tries + 1):
        return False
    needed, free = _room_needed(why, missing_bytes_of(shard))
    retry_at = _seconds_from_now(_pause_seconds(why, shard.tries + 1, needed, free))
    sentence = _wait_sentence(why, needed, free)
    with recorded():
        recovery = Recovery.objects.select_for_update(no_key=True).get(pk=shard.recovery_id)
        waits: dict[str, Any] = {"waiting_for": why.waits_for, "retry_at": retry_at, "error": sentence}
        if held.update(state=ShardState.PLANNED, **waits, **FREE, tries=F("tries") + 1):
            _note_wait(
                recovery,
                why,
                sentence,
                retry_at=retry_at,
                tries=shard.tries + 1,
                bytes_needed=why.bytes_needed,
            )
    return True


def last_sentence_of(shard: RecoveryShard, why: RunWaits) -> str:
    """Return why a shard is not tried again."""
    return _last_sentence(why, shard.tries + 1, shard.recovery)


def _note_wait(recovery: Recovery, why: RunWaits, sentence: str, **fields: Any) -> None:
    """Write the wait on the locked row, append the event of a first wait, and email the owners."""
    begins = recovery.waiting_since is None
    since = Coalesce(F("waiting_since"), Now())
    Recovery.objects.filter(pk=recovery.pk).update(
        waiting_for=why.waits_for, waiting_since=since, error=sentence, **fields
    )
    recovery.refresh_from_db()
    began = recovery.waiting_since
    lasts = began is not None and began < timezone.now() - LASTS
    # Once for each wait: the key has the start of the wait, and holds while the email is kept.
    is_kept = began is not None and began >= kept_since(settings.GATEHOUSE_KEEP_MAIL_DAYS)
    data = {"recovery": recovery.pk, "attempt": recovery.attempts, "for": why.waits_for, "error": sentence}
    for weights in recovery.weights.filter(replaced_at=None).select_related("model").order_by("model_id"):
        if begins:
            append_event(kind="recovery.waiting", model=weights.model, data=data)
        if is_kept and (why.waits_for in AT_ONCE or lasts):
            for person in people_to_tell(weights.model, owners_only=True):
                queue_mail(
                    key=f"recovery-waits:{recovery.pk}:{began:%Y%m%dT%H%M%S.%f}:{weights.model_id}:{person.pk}",
                    to=person.email,
                    template="mails/recovery_waits.txt",
                    context={"model": weights.model, "recovery": recovery, "person": person},
                )


def _room_needed(why: RunWaits, missing: int) -> tuple[int, int | None]:
    """Return (bytes needed, bytes free) for a wait for room; needed is 0 if more is free, for example with a quota."""
    free = free_bytes()
    needed = why.bytes_needed or missing if why.waits_for == WaitsFor.ROOM else 0
    return (needed, free) if free is not None and needed > free else (0, free)


def _pause_seconds(why: RunWaits, tries: int, needed: int, free: int | None) -> int:
    """Return seconds. If the needed room is known, checks are frequent: they cost little, and no run starts without it."""
    pause = PAUSES[0] if needed else PAUSES[min(tries, len(PAUSES)) - 1]
    return max(pause, min(why.seconds, LONGEST_ASKED))


def _seconds_from_now(seconds: int) -> ExpressionWrapper[Any]:
    return from_now(timedelta(seconds=seconds))


def _is_over(why: RunWaits, tries: int) -> bool:
    return why.waits_for in BOUNDED and tries >= MOST_TRIES


def _wait_sentence(why: RunWaits, needed: int, free: int | None) -> str:
    """Return a sentence for an owner; the run's own message comes first."""
    if why.waits_for == WaitsFor.ROOM:
        amount = f"{human(needed)} are needed and {human(free or 0)} are free." if needed else ""
        full = "The disk that holds the portal's weights is full, or its quota is used up."
        return " ".join(
            filter(None, [full, amount, "Make room there. The recovery then continues by itself."])
        )
    said = str(why) or SAID.get(why.waits_for, "")
    return f"{said} The recovery continues by itself."


SAID = {
    WaitsFor.STORE: "The folder that holds the portal's weights is not there: check that its disk is mounted.",
    WaitsFor.MEMORY: "There was not enough memory for the run.",
}


def _last_sentence(why: RunWaits, tries: int, recovery: Recovery) -> str:
    since = f" since {recovery.waiting_since:%H:%M} UTC" if recovery.waiting_since else ""
    said = str(why) or SAID.get(why.waits_for, "")
    return f"{said} This happened {tries} times{since} without progress. {why.advice}".strip()


def go_on() -> int:
    """Let waiting recoveries be claimed again if their time has come and, if they wait for room, there is enough.

    Returns how many may continue. Costs two indexed reads, and reads the disk only if something waits for room.
    """
    recoveries = Recovery.objects.filter(state=RecoveryState.PLANNED)
    shards = RecoveryShard.objects.filter(state=ShardState.PLANNED).select_related("recovery")
    due = [*_due_rows(recoveries), *_due_rows(shards)]
    fitting, later = _split_fitting(due) if due else ([], [])
    for rows, model in (
        (fitting, Recovery),
        (later, Recovery),
        (fitting, RecoveryShard),
        (later, RecoveryShard),
    ):
        ids = [row.pk for row in rows if isinstance(row, model)]
        change: dict[str, Any] = {"waiting_for": "", "retry_at": None}
        if rows is later:
            change = {"retry_at": _seconds_from_now(PAUSES[0])}
        if ids:
            model.objects.filter(pk__in=ids).exclude(waiting_for="").update(**change)
    spread = {row.recovery_id for row in fitting if isinstance(row, RecoveryShard)}
    if spread:
        Recovery.objects.filter(pk__in=spread, state=RecoveryState.RUNNING).update(
            waiting_for="", retry_at=None, bytes_needed=0
        )
    return len(fitting)


def _due_rows(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(retry_at__lte=Now()).exclude(waiting_for="").order_by("retry_at", "pk")[:MOST]


def _split_fitting(rows: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Return (those that may continue, those that do not fit yet); each that continues uses up free disk space."""
    fitting, later, free = [], [], free_bytes()
    has_room: set[int] = set()  # recoveries whose shards wait for the room of all of them
    for row in rows:
        recovery_id = row.recovery_id if isinstance(row, RecoveryShard) else row.pk
        if recovery_id in has_room or row.waiting_for != WaitsFor.ROOM:
            needed = 0
        elif isinstance(row, RecoveryShard):
            needed = row.recovery.bytes_needed or missing_bytes_of(row)
        else:
            needed = row.bytes_needed
        if free is not None and needed > free:
            later.append(row)
            continue
        fitting.append(row)
        free = None if free is None else free - needed
        if isinstance(row, RecoveryShard) and row.recovery.bytes_needed:
            has_room.add(row.recovery_id)
    return fitting, later


def start_over() -> None:
    """Retry long waits at once when a worker starts, since it may have another machine or more memory.

    The worker may also have crashed, so tries for `BOUNDED` reasons still count.
    """
    for model in (Recovery, RecoveryShard):
        waiting = model.objects.exclude(waiting_for="").filter(retry_at__gt=_seconds_from_now(FAR))
        waiting.exclude(waiting_for__in=BOUNDED).update(tries=0, retry_at=Now())
        waiting.update(retry_at=Now())
