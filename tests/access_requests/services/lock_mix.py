"""Every service that changes data, as steps that threads pick at random for the same few people and two models."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from access_requests.enums import FarStatus, Gate, Outcome, Place, ReasonCode, TokenKind, TokenOrigin
from access_requests.errors import RuleError
from access_requests.models import (
    AccessRequest,
    AccessToken,
    DeviceCode,
    FollowedRepo,
    GatedModel,
    Grant,
    LicenceVersion,
    Machine,
    RemoteRequest,
    TrustedRepository,
)
from access_requests.services import grants, tokens
from access_requests.services.catalogue import demand_licence, edit, gated_models, names, roles
from access_requests.services.following import importing, managing, polling, taking
from access_requests.services.following.reading import FarItem
from access_requests.services.leaked_secrets import Found, report_tokens
from access_requests.services.oauth import codes, machines, trusted
from access_requests.services.requests import claims, move_between_lists, submit
from access_requests.services.requests.decide import record_decision
from model_ops.models import Ref, Revision
from model_ops.services.clean import clean_weights
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.uploads import creating, holding, rules
from portal.accounts.models import User
from portal.accounts.people import save_account
from tests.conftest import TULU_ANSWERS, TULU_CARD
from tests.model_ops.uploads import Uploads

Step = Callable[["Mix"], Any]
STEPS: list[Step] = []
ISSUER = "https://token.actions.githubusercontent.com"
SECRETS: list[tuple[str, str]] = []  # (kind, secret) pairs given to any thread


def step(function: Step) -> Step:
    STEPS.append(function)
    return function


class Mix:
    """One thread's random choices, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def run(self, times: int) -> int:
        """Take this many steps; return how many were not refused by a rule."""
        done = 0
        for _ in range(times):
            try:
                self.random.choice(STEPS)(self)
            except RuleError:
                continue
            done += 1
        return done

    def one(self, rows: Any) -> Any:
        """Return a random row; raise RuleError if there is none."""
        found = list(rows)
        if not found:
            raise RuleError("there is none")
        return self.random.choice(found)

    def model(self) -> GatedModel:
        return self.one(GatedModel.objects.order_by("pk")[:2])

    def person(self) -> User:
        return self.one(User.objects.filter(username__in=["ada", "bob"]))

    def reviewer(self) -> User:
        return self.one(User.objects.filter(username__in=["olga", "rita"]))

    def request(self, **which: Any) -> AccessRequest:
        return self.one(AccessRequest.objects.filter(**which).order_by("-pk")[:6])


# --- requests and grants ---


@step
@step
def ask(mix: Mix) -> None:
    person, model = mix.person(), mix.model()
    request = submit.start_request(model=model, applicant=person)
    shown = list(model.licence_versions.filter(retired_at=None).values_list("pk", flat=True))
    submit.submit_request(request=request, applicant=person, answers=TULU_ANSWERS, licences_shown=shown)


@step
@step
@step
def decide(mix: Mix) -> None:
    outcome = mix.one([Outcome.APPROVED, Outcome.REJECTED, Outcome.CHANGES_REQUESTED, Outcome.RESET])
    record_decision(
        request=mix.request(),
        reviewer=mix.reviewer(),
        outcome=outcome,
        reason_code=ReasonCode.OTHER,
        words="Because.",
    )


@step
def claim(mix: Mix) -> None:
    reviewer, take_over = mix.reviewer(), mix.random.random() < 0.5
    claims.claim_request(request=mix.request(), reviewer=reviewer, take_over=take_over)


@step
def release(mix: Mix) -> None:
    claims.release_claim(request=mix.request(), reviewer=mix.reviewer())


@step
def hold(mix: Mix) -> None:
    request, reviewer = mix.request(), mix.reviewer()
    if request.held_at is None:
        claims.hold_request(request=request, reviewer=reviewer, reason="Legal reads it.")
    else:
        claims.end_hold(request=request, reviewer=reviewer)


@step
def change_answers(mix: Mix) -> None:
    request = mix.request()
    shown = request.model.licence_versions.filter(retired_at=None).values_list("pk", flat=True)
    answers = {**TULU_ANSWERS, "f5": f"Use number {mix.random.randrange(9)}."}
    submit.submit_request(
        request=request, applicant=request.applicant, answers=answers, licences_shown=list(shown)
    )


@step
def need_approvals(mix: Mix) -> None:
    model = mix.model()
    edit.change_settings(
        model=model, gate=model.gate, grant_days=30, listed=model.listed, approvals=mix.one([1, 2])
    )


@step
def withdraw(mix: Mix) -> None:
    request = mix.request()
    submit.withdraw_request(request=request, applicant=request.applicant)


@step
def appeal(mix: Mix) -> None:
    request = mix.request()
    submit.appeal_request(request=request, applicant=request.applicant, words="Look again.")


@step
@step
def put(mix: Mix) -> None:
    people = User.objects.filter(access_requests__isnull=False).distinct()
    move_between_lists.change_place(
        model=mix.model(),
        person=mix.one(people),
        to=mix.one(list(Place)),
        reviewer=mix.reviewer(),
        words="So.",
    )


@step
def give(mix: Mix) -> None:
    move_between_lists.grant_to(model=mix.model(), person=mix.person(), reviewer=mix.reviewer())


@step
def vouch(mix: Mix) -> None:
    grants.grant_access(model=mix.model(), email=mix.person().email, days=3, token_name="first")


@step
def revoke(mix: Mix) -> None:
    grants.revoke_access(model=mix.model(), user=mix.person(), reason="Over.", actor=mix.reviewer())


@step
def expire(mix: Mix) -> None:
    now = timezone.now()
    live = mix.one(Grant.objects.filter(closed_at=None))
    Grant.objects.filter(pk=live.pk, closed_at=None).update(
        starts_at=now - timedelta(days=2), ends_at=now - timedelta(seconds=1)
    )
    grants.close_ended_grants()


# --- models ---


@step
def replace_text(mix: Mix) -> None:
    text = gated_models.LicenceText("licence.txt", "en", f"Be good, {mix.random.randrange(3)}.\n")
    edit.add_licence(model=mix.model(), licence=text, must_accept=mix.random.random() < 0.5)


@step
def demand(mix: Mix) -> None:
    demand_licence.demand_licence(licence=mix.one(LicenceVersion.objects.filter(retired_at=None)))


@step
def accept(mix: Mix) -> None:
    model = mix.model()
    shown = list(model.licence_versions.values_list("pk", flat=True))
    demand_licence.accept_licences(model=model, user=mix.person(), shown=shown)


@step
def card(mix: Mix) -> None:
    more = "  Grant number: text\n" if mix.random.random() < 0.5 else ""
    text = TULU_CARD.replace("  Intended Use", f"{more}  Intended Use")
    gated_models.update_card(model=mix.model(), card=text)


@step
def settings(mix: Mix) -> None:
    edit.change_some_settings(model=mix.model(), gate=mix.one([Gate.MANUAL, Gate.MANUAL, Gate.AUTO]))


@step
def role(mix: Mix) -> None:
    roles.assign_role(
        model=mix.model(),
        user=mix.one(User.objects.filter(username="bob")),
        role=mix.one(["", "reviewer", "auditor"]),
    )


@step
def rename(mix: Mix) -> None:
    names.rename_model(model=mix.model(), to=f"ai/name-{mix.random.randrange(4)}")


@step
def let_go(mix: Mix) -> None:
    names.let_go_of_name(repo_id=f"ai/name-{mix.random.randrange(4)}")


@step
def add(mix: Mix) -> None:
    gated_models.add_model(repo_id=f"ai/name-{mix.random.randrange(4)}", card=TULU_CARD)


@step
def rights(mix: Mix) -> None:
    person = mix.person()
    person.first_name = f"{person.first_name[:3]}x"
    save_account(user=person, actor=mix.reviewer())


# --- revisions ---


@step
def publish(mix: Mix) -> None:
    publish_revision(model=mix.model())


@step
@step
def upload(mix: Mix) -> None:
    model, owner = mix.model(), mix.one(User.objects.filter(username="olga"))
    branch = mix.one(Ref.objects.filter(model=model, is_tag=False)).name
    content = f"{mix.random.randrange(5)}\n".encode()
    Uploads(model, owner).commit({f"note-{mix.random.randrange(3)}.txt": content}, branch=branch)


@step
def publish_held(mix: Mix) -> None:
    holding.publish_upload(revision=mix.one(Revision.objects.exclude(held_at=None)))


@step
def discard(mix: Mix) -> None:
    holding.discard_upload(revision=mix.one(Revision.objects.exclude(held_at=None)))


@step
def branch(mix: Mix) -> None:
    model, name = mix.model(), f"b-{mix.random.randrange(2)}"
    creating.create_branch(model=model, name=name, start="", user=mix.reviewer())


@step
def unbranch(mix: Mix) -> None:
    creating.delete_branch(model=mix.model(), name=f"b-{mix.random.randrange(2)}", user=mix.reviewer())


@step
def rule(mix: Mix) -> None:
    rules.set_upload_rule(model=mix.model(), publish_uploads=mix.random.random() < 0.5)


@step
def clean(_mix: Mix) -> None:
    clean_weights()


# --- tokens, machines, trusted repositories ---


@step
def token(mix: Mix) -> None:
    grant = mix.one(Grant.objects.filter(closed_at=None))
    made = tokens.issue_token(grant=grant, user=grant.user, name=f"t-{mix.random.randrange(9)}")
    SECRETS.append(("token", made.secret))


@step
def first_token(mix: Mix) -> None:
    grant = mix.one(Grant.objects.filter(closed_at=None))
    tokens.show_first_token(grant=grant, user=grant.user)


@step
def own_token(mix: Mix) -> None:
    made = tokens.issue_person_token(
        user=mix.person(), kind=TokenKind.USER, name=f"t-{mix.random.randrange(9)}"
    )
    SECRETS.append(("token", made.secret))


@step
def rotate(mix: Mix) -> None:
    row = mix.one(AccessToken.objects.filter(revoked_at=None).exclude(origin=TokenOrigin.DEVICE))
    tokens.rotate_token(token=row, user=row.user, overlap=mix.one(tokens.OVERLAPS))


@step
def end_token(mix: Mix) -> None:
    row = mix.one(AccessToken.objects.filter(revoked_at=None).select_related("grant__model"))
    tokens.revoke_token(token=row, user=row.user)


@step
def report(mix: Mix) -> None:
    report_tokens(found=[Found(mix.one(SECRETS)[1], "a page")])


@step
@step
def sign_in(mix: Mix) -> None:
    begun = codes.begin_sign_in(client_id="hf", client="hf", address=None)
    SECRETS.append(("code", begun.device_code))
    codes.approve(code=begun.code, user=mix.person(), name="gpu")


@step
def approve(mix: Mix) -> None:
    codes.approve(code=mix.one(DeviceCode.objects.all()), user=mix.person(), name="gpu")


@step
def deny(mix: Mix) -> None:
    codes.deny(code=mix.one(DeviceCode.objects.all()), user=mix.person())


@step
@step
def fetch(mix: Mix) -> None:
    pair = codes.fetch_tokens(device_code=mix.one(s for kind, s in SECRETS if kind == "code"), client_id="hf")
    SECRETS.extend([("token", pair.access.secret), ("refresh", pair.refresh_secret)])


@step
@step
def refresh(mix: Mix) -> None:
    pair = machines.refresh(secret=mix.one(s for kind, s in SECRETS if kind == "refresh"))
    SECRETS.extend([("token", pair.access.secret), ("refresh", pair.refresh_secret)])


@step
def sign_out(mix: Mix) -> None:
    machine = mix.one(Machine.objects.select_related("user"))
    machines.sign_out(machine=machine, why="it was sold", actor=machine.user)


@step
def end_secret(mix: Mix) -> None:
    machines.revoke_secret(secret=mix.one(SECRETS)[1])


@step
def trust(mix: Mix) -> None:
    trusted.trust_repository(user=mix.person(), issuer=ISSUER, repository=f"ada/r{mix.random.randrange(3)}")


@step
def untrust(mix: Mix) -> None:
    row = mix.one(TrustedRepository.objects.select_related("user"))
    trusted.remove_trusted(trusted=row, user=row.user)


# --- a followed repository ---


def item(mix: Mix, number: int) -> FarItem:
    return FarItem(
        status=mix.one([FarStatus.PENDING, FarStatus.ACCEPTED, FarStatus.REJECTED]),
        request_id=f"r{number}",
        user_id=f"u{number}",
        name=mix.one([f"far-{number}", f"afar-{number}"]),
        asked_at=timezone.now(),
        fields={"First Name": "Far"},
    )


@step
@step
def poll(mix: Mix) -> None:
    followed = mix.one(FollowedRepo.objects.select_related("model__form"))
    number = mix.random.randrange(2)
    known = RemoteRequest.objects.select_related("person").filter(far_request_id=f"r{number}").first()
    if known is None:
        importing.import_request(followed=followed, item=item(mix, number))
    else:
        polling._compare_row(known, item(mix, number), timezone.now())


@step
def take(mix: Mix) -> None:
    row = mix.one(RemoteRequest.objects.exclude(drifted_at=None).select_related("person"))
    taking.take_theirs(remote=row, actor=mix.reviewer(), seen=row.far_status)


@step
def push(mix: Mix) -> None:
    row = mix.one(RemoteRequest.objects.exclude(drifted_at=None).select_related("person"))
    taking.push_ours(remote=row, actor=mix.reviewer(), seen=row.far_status)


@step
def follow_again(mix: Mix) -> None:
    followed = mix.one(FollowedRepo.objects.select_related("model"))
    mix.one([managing.pause, managing.sync_now])(followed=followed)
