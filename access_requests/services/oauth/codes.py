"""The device flow (RFC 8628): a client shows a short code, a person decides in the browser, the client fetches its tokens."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.enums import DeviceState
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import DeviceCode, Machine
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_person
from access_requests.services.oauth import limits
from access_requests.services.oauth.errors import OAuthError
from access_requests.services.oauth.machines import (
    MOST_MACHINES,
    UNUSED_DAYS,
    Pair,
    clean_machine_name,
    digest,
    first_pair,
    live_machines,
    lock_machine,
    sign_out,
)

if TYPE_CHECKING:
    from portal.accounts.models import User

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628, 6.1: no vowels, so no words; no letters that look like digits
CODE_LENGTH = 8  # 20**8: with 10 guesses during a code's life, a chance of one in 2.5 billion
LIFE = timedelta(minutes=15)
INTERVAL = 2  # seconds between polls
SLOWER_BY, SLOWEST = 5, 60
TOLERANCE = 0.5  # seconds that a poll may be early, since network delays vary
NEVER_FETCHED = "the machine never fetched its tokens"
CODE = re.compile(rf"[{LETTERS}]{{{CODE_LENGTH}}}")


@dataclass(frozen=True)
class Begun:
    """The answer to the client; the secret code is known only now."""

    code: DeviceCode
    device_code: str


def begin_sign_in(*, client_id: str, client: str, address: str | None) -> Begun:
    """Start a sign-in; any client may do that, since only a person's approval gives access."""
    limits.spend(limits.SIGN_INS_OF_ADDRESS, address)
    secret, now = secrets.token_urlsafe(32), timezone.now()
    while True:
        try:
            with transaction.atomic():
                code = DeviceCode.objects.create(
                    digest=digest(secret),
                    user_code="".join(secrets.choice(LETTERS) for _letter in range(CODE_LENGTH)),
                    client_id=client_id[:100],
                    client=client[:200],
                    address=address,
                    created_at=now,
                    expires_at=now + LIFE,
                    interval=INTERVAL,
                )
        except IntegrityError:  # another sign-in has this short code
            continue
        return Begun(code, secret)


def shown(user_code: str) -> str:
    """Return the code as people read it: `BCDF-GHJK`."""
    return f"{user_code[:4]}-{user_code[4:]}"


def find_waiting(*, typed: str, user: User, address: str | None) -> DeviceCode:
    """Return the sign-in for a typed code; wrong codes count against the person and their address."""
    limits.spend(limits.WRONG_CODES_OF_PERSON, user.pk)
    limits.spend(limits.WRONG_CODES_OF_ADDRESS, address)
    wanted = "".join(c for c in typed.upper() if not (c.isspace() or c in "-‐‑–—_."))
    code = DeviceCode.objects.filter(user_code=wanted).first() if CODE.fullmatch(wanted) else None
    if code is None:
        raise NotFound(
            _("The code %(code)r is not known: check that it is the one in your terminal.")
            % {"code": typed[:20]},
            field="user_code",
        )
    limits.give_back(limits.WRONG_CODES_OF_PERSON, user.pk)
    limits.give_back(limits.WRONG_CODES_OF_ADDRESS, address)
    _check_still_waits(code)
    return code


def _check_still_waits(code: DeviceCode) -> None:
    if code.state == DeviceState.DENIED:
        raise Conflict(_("This sign-in was already denied. The machine got no access."), field="user_code")
    if code.state == DeviceState.ENDED:
        raise Conflict(
            _("This sign-in was ended before the machine fetched its token: start again in the terminal."),
            field="user_code",
        )
    if code.state != DeviceState.WAITING:
        raise Conflict(
            _(
                "This sign-in was already approved: go back to your terminal. "
                "If it was not you, sign the machine out below."
            ),
            field="user_code",
        )
    if code.expires_at <= timezone.now():
        raise Conflict(
            _("This code has expired: codes are valid for 15 minutes. Start again in the terminal."),
            field="user_code",
        )


def approve(*, code: DeviceCode, user: User, name: str) -> Machine:
    """Approve the machine on this person's behalf; of two tabs, one wins and the other gets a message."""
    name = clean_machine_name(name)
    if not user.is_active:
        raise NotAllowed(_("Your account is disabled."))
    with recorded():
        lock_person(user.pk)
        code = DeviceCode.objects.select_for_update(no_key=True).get(pk=code.pk)
        _check_still_waits(code)
        if live_machines(user).count() >= MOST_MACHINES:
            raise Invalid(
                _("You have %(most)s signed-in machines: sign one out first.") % {"most": MOST_MACHINES}
            )
        now = timezone.now()
        machine = Machine.objects.create(
            user=user,
            name=name,
            client_id=code.client_id,
            client=code.client,
            address=code.address,
            signed_in_at=now,
            ends_at=now + timedelta(days=UNUSED_DAYS),
        )
        code.machine, code.state, code.decided_at = machine, DeviceState.APPROVED, now
        code.save(update_fields=["machine", "state", "decided_at"])
        append_event(
            kind="machine.approved",
            actor=user,
            data={"machine": machine.pk, "name": name, "client": code.client, "address": code.address},
        )
        queue_mail(
            key=f"machine:{machine.pk}",
            to=user.email,
            template="mails/machine_signed_in.txt",
            context={"person": user, "machine": machine},
        )
    return machine


def deny(*, code: DeviceCode, user: User) -> None:
    """Deny the sign-in: the client is informed and gets no access."""
    with recorded():
        code = DeviceCode.objects.select_for_update(no_key=True).get(pk=code.pk)
        _check_still_waits(code)
        code.state, code.decided_at = DeviceState.DENIED, timezone.now()
        code.save(update_fields=["state", "decided_at"])
        append_event(kind="machine.denied", actor=user, data={"client": code.client, "address": code.address})


def fetch_tokens(*, device_code: str, client_id: str) -> Pair:
    """Answer a poll: return the tokens if the person approved, else raise the `OAuthError` with the state."""
    code = DeviceCode.objects.select_related("machine").filter(digest=digest(device_code)).first()
    if code is None or code.client_id != client_id[:100]:
        raise OAuthError("invalid_grant", "This device code is not known: run 'hf auth login' again.")
    if code.state == DeviceState.WAITING:
        now = timezone.now()
        if code.expires_at <= now:
            raise OAuthError("expired_token", "The code has expired: run 'hf auth login' again.")
        early = code.polled_at and (now - code.polled_at).total_seconds() < code.interval - TOLERANCE
        interval = min(code.interval + SLOWER_BY, SLOWEST) if early else code.interval
        DeviceCode.objects.filter(pk=code.pk).update(polled_at=now, interval=interval)
        if early:
            raise OAuthError("slow_down", f"Ask every {interval} seconds.")
        raise OAuthError("authorization_pending", f"Waiting for a person to approve {shown(code.user_code)}.")
    if code.state == DeviceState.DENIED:
        raise OAuthError("access_denied", "The sign-in was denied in the browser.")
    if code.state == DeviceState.APPROVED:
        with recorded():
            assert code.machine_id is not None  # noqa: S101 - the row's constraint says so
            machine = lock_machine(code.machine_id)
            approved = DeviceCode.objects.filter(pk=code.pk, state=DeviceState.APPROVED)
            if why := _why_too_late(code, machine):
                sign_out(machine=machine, why=why)
            elif approved.update(state=DeviceState.USED):
                return first_pair(machine)
        code.refresh_from_db()
    raise _no_tokens_error(code)


def _why_too_late(code: DeviceCode, machine: Machine) -> str:
    """Return why an approved machine gets no tokens any more; "" if it gets them."""
    if machine.signed_out_at is not None:
        return machine.signed_out_why
    if not machine.user.is_active:
        return "its account is disabled"
    return NEVER_FETCHED if min(code.expires_at, machine.ends_at) <= timezone.now() else ""


def _no_tokens_error(code: DeviceCode) -> OAuthError:
    """Return the error for a code that was used, or whose approval was withdrawn or not fetched in time.

    If a code is used a second time, its machine is signed out: either a thief has it, or the first answer was
    lost. The machine must sign in again in both cases.
    """
    machine = Machine.objects.get(device_code=code)
    used = code.state == DeviceState.USED
    if used and sign_out(machine=machine, why="its device code came a second time"):
        return OAuthError("invalid_grant", "This device code was already used: run 'hf auth login' again.")
    if used:
        machine.refresh_from_db()
    elif machine.signed_out_why == NEVER_FETCHED:
        return OAuthError("expired_token", "The code has expired: run 'hf auth login' again.")
    return OAuthError(
        "invalid_grant" if used else "access_denied",
        f"This machine is signed out: {machine.signed_out_why}. Run 'hf auth login' again.",
    )
