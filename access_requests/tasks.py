"""What the worker does for the people side: emails, the ends of grants, repositories followed elsewhere."""

from __future__ import annotations

from celery import shared_task

from access_requests.services import grants
from access_requests.services.catalogue import rendered_texts
from access_requests.services.emails import send
from access_requests.services.event_log import anchors
from access_requests.services.following import polling, pushing
from access_requests.services.queue import enqueue_each_on_commit


@shared_task(soft_time_limit=120, time_limit=150)
def send_mail(mail_id: int = 0) -> None:
    """Send what is due, this email among it: which one goes first is not for the message to say."""
    send.send_due()


@shared_task(soft_time_limit=120, time_limit=150)
def send_due_mail() -> None:
    """Send emails whose message was lost or that waited for the mail server."""
    send.send_due()


@shared_task(soft_time_limit=120, time_limit=150)
def close_ended_grants() -> None:
    """Writes the end of grants that ran out into the log."""
    grants.close_ended_grants()


@shared_task(soft_time_limit=20, time_limit=30)
def anchor_log() -> None:
    """Write the head of the event log, signed, to the file of anchors when that is due."""
    anchors.write_anchor_if_due()


@shared_task(soft_time_limit=300, time_limit=330)
def render_outdated() -> None:
    """Render cards and forms whose HTML is missing or outdated, for most of the minute until the next run."""
    rendered_texts.render_outdated(seconds=45)


@shared_task(soft_time_limit=30, time_limit=45)
def follow_due() -> None:
    """Wakes a worker for each followed repository to be polled and each decision to be told; their rows own the work.

    Messages that no worker took in time end: while all of them wait for slow remotes, the queue does not grow.
    """
    for task, due, most in (
        ("access_requests.tasks.push_decision", pushing.due(), 200),
        ("access_requests.tasks.poll_followed", polling.due(), 50),
    ):
        enqueue_each_on_commit(task, list(due.values_list("pk", flat=True)[:most]), expires=300)


@shared_task(soft_time_limit=900, time_limit=930)
def poll_followed(followed_id: int) -> None:
    """Looks through the lists of one followed repository; a second delivery of the message finds nothing to do."""
    polling.poll(followed_id=followed_id)


@shared_task(soft_time_limit=300, time_limit=330)
def push_decision(push_id: int) -> None:
    """Tells one decision at a followed repository; a second delivery of the message finds nothing to do."""
    pushing.push(push_id=push_id)
