"""The Celery tasks of the people side: emails, expired grants, the log's anchor, followed repositories."""

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
    """Send the emails that are due, this one among them; the message does not decide which goes first."""
    send.send_due()


@shared_task(soft_time_limit=120, time_limit=150)
def send_due_mail() -> None:
    """Send emails whose message was lost or that waited for the mail server."""
    send.send_due()


@shared_task(soft_time_limit=120, time_limit=150)
def close_ended_grants() -> None:
    """Log the end of expired grants."""
    grants.close_ended_grants()


@shared_task(soft_time_limit=20, time_limit=30)
def anchor_log() -> None:
    """Append the signed head of the event log to the file of anchors, if one is due."""
    anchors.write_anchor_if_due()


@shared_task(soft_time_limit=300, time_limit=330)
def render_outdated() -> None:
    """Render cards and forms whose HTML is missing or outdated, for most of the minute until the next run."""
    rendered_texts.render_outdated(seconds=45)


@shared_task(soft_time_limit=30, time_limit=45)
def follow_due() -> None:
    """Wake a worker for each followed repository to poll and each decision to report; their rows own the work.

    Messages that no worker takes in time expire, so the queue does not grow while all workers wait for slow
    remotes.
    """
    for task, due, most in (
        ("access_requests.tasks.push_decision", pushing.due(), 200),
        ("access_requests.tasks.poll_followed", polling.due(), 50),
    ):
        enqueue_each_on_commit(task, list(due.values_list("pk", flat=True)[:most]), expires=300)


@shared_task(soft_time_limit=900, time_limit=930)
def poll_followed(followed_id: int) -> None:
    """Poll one followed repository's lists; a message delivered twice finds nothing to do."""
    polling.poll(followed_id=followed_id)


@shared_task(soft_time_limit=300, time_limit=330)
def push_decision(push_id: int) -> None:
    """Report one decision to a followed repository; a message delivered twice finds nothing to do."""
    pushing.push(push_id=push_id)
