"""What the worker does for the people side: mail and the ends of grants."""

from __future__ import annotations

from celery import shared_task

from access_requests.services import grants, mail
from access_requests.services.oauth import codes


@shared_task(soft_time_limit=30, time_limit=45)
def send_mail(mail_id: int) -> None:
    """Sends one mail; a second delivery of the message finds nothing to do."""
    mail.send_mail_now(mail_id=mail_id)


@shared_task(soft_time_limit=300, time_limit=330)
def send_due_mail() -> None:
    """Mails whose message was lost or whose server failed."""
    mail.send_due()


@shared_task(soft_time_limit=120, time_limit=150)
def close_ended_grants() -> None:
    """Writes the end of grants that ran out into the log."""
    grants.close_ended_grants()


@shared_task(soft_time_limit=120, time_limit=150)
def forget_ended_codes() -> None:
    """Deletes the codes of sign-ins that ended a day ago."""
    codes.forget_ended_codes()
