"""Manage the catalogue: gated models, their cards, forms, licences and roles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.access.catalogue import find_model, find_renamed, may_know_of
from access_requests.cards import Card, CardRefused, GateForm, card_data, keep_choices, read_card
from access_requests.enums import Gate, Role
from access_requests.errors import Conflict, Invalid
from access_requests.ids import NAME
from access_requests.models import FormVersion, GatedModel, LicenceVersion, ModelRole
from access_requests.models.catalogue import LONGEST_GRANT
from access_requests.rendering.texts import CardPage, GateTexts, render_card, render_gate
from access_requests.services.catalogue.rendered_texts import keep_card_page
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model, lock_names

if TYPE_CHECKING:
    from portal.accounts.models import User

# The portal's own first path segments: a model there would hide a page or be hidden by one.
RESERVED_NAMESPACES = frozenset(
    {
        "accounts",
        "admin",
        "api",
        "oauth",
        "static",
        "media",
        "me",
        "healthz",
        "robots.txt",
        "favicon.ico",
        "outbox",
    }
    | {
        "login",
        "logout",
        "signup",
        "settings",
        "models",
        "datasets",
        "spaces",
        "kernels",
        "docs",
        "help",
        "about",
    }
    | {"i18n", "htmx", ".well-known"}
)
LONGEST_LICENCE = 2 * 2**20  # characters
LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class LicenceText:
    """One licence text: file name, BCP 47 language, text, and whether it is the one that binds (None: not said)."""

    name: str
    language: str
    text: str
    binding: bool | None = None


def check_repo_id(repo_id: str) -> str:
    """Return the id if it can be used. Raises `Invalid` with the rule that it breaks."""
    namespace, slash, name = repo_id.partition("/")
    for part in (namespace, name):
        if not slash or not NAME.fullmatch(part):
            raise Invalid(
                _(
                    "%(id)r is not a repository id: write NAMESPACE/NAME, "
                    "each of at most 96 letters, digits, '_', '.' or '-'."
                )
                % {"id": repo_id}
            )
        if "--" in part or ".." in part or part.endswith(".git") or part[0] in ".-" or part[-1] in ".-":
            raise Invalid(
                _(
                    "%(part)r cannot be used: no '--' or '..', no '.git' at the end, no '.' or '-' at either end."
                )
                % {"part": part}
            )
    if namespace.lower() in RESERVED_NAMESPACES:
        raise Invalid(
            _("The namespace %(namespace)r is one of the portal's own addresses: choose another.")
            % {"namespace": namespace}
        )
    return repo_id


def check_namespace(namespace: str) -> None:
    """Refuse a namespace that cannot contain repositories. Raises `Invalid`."""
    check_repo_id(f"{namespace}/x")


def check_free(repo_id: str, *, besides: GatedModel | None = None, asker: User | None = None) -> None:
    """Refuse an id that a model has or once had: people who still use that id must not get another model's files.

    The error names the model to operators (no `asker`) and to people who may know of it.
    """
    known, former = find_model(repo_id), find_renamed(repo_id)
    taken = next((model for model in (known, former) if model and model != besides), None)
    if taken is None:
        return
    if asker is not None and not may_know_of(asker, taken):
        raise Conflict(_("%(id)s is taken: choose another name.") % {"id": repo_id}, field="repo_id")
    if taken == known:
        raise Conflict(
            _("%(id)s is already in the catalogue: publish a new revision with update_model.") % {"id": known}
        )
    raise Conflict(
        _(
            "%(id)s is a former name of %(model)s, which it leads to: choose another, "
            "or let go of it with rename_model --let-go %(id)s."
        )
        % {"id": repo_id, "model": taken}
    )


def check_days(days: int) -> None:
    """Refuse a length of grants that is not allowed."""
    if not 1 <= days <= LONGEST_GRANT:
        raise Invalid(
            _("%(days)s days cannot be granted: give 1 to %(longest)s.")
            % {"days": days, "longest": LONGEST_GRANT},
            field="grant_days",
        )


def understand_card(card: str) -> Card:
    """Read a card. Raises `Invalid` with line and reason if it cannot be understood."""
    try:
        return read_card(card)
    except CardRefused as refused:
        raise Invalid(str(refused)) from refused


@dataclass(frozen=True)
class ReadCard:
    """A card with everything made from it; making it is slow, so no lock is held.

    Its page links to `repo_id`.
    """

    text: str
    repo_id: str
    read: Card
    page: CardPage
    texts: GateTexts
    replaces: str = ""
    form_replaced: GateForm | None = None


def prepare_card(card: str, *, repo_id: str, replaces: str = "") -> ReadCard:
    """Read and render a card before the transaction that stores it. Raises `Invalid` if it can't be read.

    `replaces` is the model's current card, which is read as well. What the owner should know about the new
    card is in its warnings.
    """
    read = understand_card(card)
    page, texts = render_card(card=card, repo_id=repo_id), render_gate(read.form)
    read.warnings.extend(problem for problem in (page.problem, texts.problem) if problem)
    return ReadCard(
        card, repo_id, read, page, texts, replaces, _read_old_form(replaces) if replaces else None
    )


def _read_old_form(card: str) -> GateForm | None:
    try:
        return read_card(card).form
    except CardRefused:  # stored by an earlier version that read cards less strictly
        return None


def add_model(
    *,
    repo_id: str,
    card: str | ReadCard,
    licences: Sequence[LicenceText] = (),
    gate: str = Gate.MANUAL,
    days: int = 365,
    listed: bool = True,
    owner: User | None = None,
    actor: User | None = None,
) -> GatedModel:
    """Add a gated model with its form and licence versions. Raises `Conflict` if the id is known.

    Pass a prepared card if a transaction is already open.
    """
    check_repo_id(repo_id)
    if gate not in Gate.values:
        raise Invalid(f"There is no gate {gate!r}: choose manual or auto.")
    check_days(days)
    check_free(repo_id, asker=actor)
    card = card if isinstance(card, ReadCard) else prepare_card(card, repo_id=repo_id)
    try:
        with recorded():
            lock_names()
            check_free(repo_id, asker=actor)
            model = GatedModel.objects.create(
                repo_id=repo_id,
                card=card.text,
                card_data=card_data(card.read.front),
                gate=gate,
                grant_days=days,
                listed=listed,
            )
            keep_card_page(model=model, page=card.page)
            set_form(model=model, form=card.read.form, actor=actor, texts=card.texts)
            if owner is not None:
                ModelRole.objects.create(model=model, user=owner, role=Role.OWNER)
            data = {"gate": str(gate)}
            append_event(kind="model.added", actor=actor, by="operator", model=model, data=data)
            replace_licences(model=model, licences=licences, actor=actor)
    except IntegrityError as error:
        raise Conflict(
            _("%(id)s is already in the catalogue: publish a new revision with update_model.")
            % {"id": repo_id}
        ) from error
    return model


def set_form(*, model: GatedModel, form: GateForm, actor: User | None, texts: GateTexts) -> FormVersion:
    """Make this the form of new requests; submitted requests keep theirs.

    `texts` are what pages show of the form, rendered before a lock is taken.
    """
    schema = form.to_json()
    with recorded():
        model.form = lock_model(model.pk).form
        if model.form is not None and model.form.schema == schema:
            return model.form
        version = FormVersion.objects.create(
            model=model, schema=schema, texts=texts.to_json(), renderer=texts.renderer
        )
        model.form = version
        model.save(update_fields=["form", "updated_at"])
        append_event(
            kind="model.form_changed",
            actor=actor,
            by="operator",
            model=model,
            data={"form": version.pk},
        )
    return version


def update_card(*, model: GatedModel, card: str | ReadCard, actor: User | None = None) -> Card:
    """Store a new card; one that cannot be understood changes nothing, so the last good form stays.

    Pass a prepared card if a transaction is already open.
    """
    if not isinstance(card, ReadCard):
        card = prepare_card(card, repo_id=model.repo_id, replaces=model.card)
    with recorded():
        now = lock_model(model.pk)
        model.card, model.form = now.card, now.form
        form = card.read.form
        read_before = card.form_replaced if card.replaces == model.card else _read_old_form(model.card)
        if model.form is not None and read_before is not None:
            # Keep the roles and requirements that the owner chose on the previous form.
            chosen = GateForm.from_json(model.form.schema)
            form = keep_choices(form, read_before=read_before, chosen=chosen)
        model.card, model.card_data = card.text, card_data(card.read.front)
        model.save(update_fields=["card", "card_data", "updated_at"])
        # Rendering takes no lock, so the model may have been renamed meanwhile: then render the page again.
        page = card.page if now.repo_id == card.repo_id else replace(card.page, renderer=0)
        keep_card_page(model=model, page=page)
        set_form(model=model, form=form, actor=actor, texts=card.texts)
        append_event(kind="model.card_changed", actor=actor, by="operator", model=model)
    return card.read


def replace_licences(
    *, model: GatedModel, licences: Sequence[LicenceText], actor: User | None = None
) -> list[LicenceVersion]:
    """Replace the current texts: unchanged ones stay, changed ones get a new version, missing ones are retired.

    Texts of one name are one licence, and one of them binds: the one that says so, or else the one that bound before, English,
    or the first. Holders who must accept a licence may accept its new version instead.
    """
    wanted = _check_licences(licences)
    with recorded():
        lock_model(model.pk)
        current = {(v.name, v.language): v for v in model.licence_versions.filter(retired_at__isnull=True)}
        bound = {v.name: v for v in current.values() if v.binding}
        binding = _binding_languages(wanted.values(), {name: v.language for name, v in bound.items()})
        kept = {
            key
            for key, v in current.items()
            if key in wanted and v.text == wanted[key].text and v.binding == (binding[v.name] == v.language)
        }
        retired = [version for key, version in current.items() if key not in kept]
        LicenceVersion.objects.filter(pk__in=[v.pk for v in retired]).update(retired_at=timezone.now())
        fresh = [
            LicenceVersion.objects.create(
                model=model,
                name=text.name,
                language=text.language,
                binding=(binds := binding[text.name] == text.language),
                text=text.text,
                sha256=LicenceVersion.digest(text.text),
                must_accept_at=bound[text.name].must_accept_at if binds and text.name in bound else None,
            )
            for key, text in wanted.items()
            if key not in kept
        ]
        if fresh or retired:
            append_event(
                kind="model.licences_changed",
                actor=actor,
                by="operator",
                model=model,
                data={"added": [v.sha256 for v in fresh], "retired": [v.sha256 for v in retired]},
            )
    return fresh


def _binding_languages(texts: Iterable[LicenceText], before: dict[str, str]) -> dict[str, str]:
    """Return the binding language of each licence; `before` is what bound until now, by name.

    Raises `Invalid` if two texts of one name say that they bind.
    """
    found: dict[str, str] = {}
    by_name: dict[str, list[LicenceText]] = {}
    for text in texts:
        by_name.setdefault(text.name, []).append(text)
    for name, of_name in by_name.items():
        said = [text.language for text in of_name if text.binding]
        if len(said) > 1:
            raise Invalid(_("Two texts of %(name)s are said to bind: choose one language.") % {"name": name})
        open_to = [text.language for text in of_name if text.binding is not False]
        preferred = [language for language in (before.get(name, ""), "en") if language in open_to]
        found[name] = [*said, *preferred, *open_to, of_name[0].language][0]
    return found


def _check_licences(licences: Sequence[LicenceText]) -> dict[tuple[str, str], LicenceText]:
    """Return the texts by name and language. Raise `Invalid` if one is unusable or two have the same name and language."""
    for licence in licences:
        if not re.fullmatch(r"[^/\\\x00-\x1f]{1,200}", licence.name) or licence.name.startswith("."):
            raise Invalid(
                _("The licence's file name %(name)r cannot be offered for download: give it a plain name.")
                % {"name": licence.name}
            )
        if not LANGUAGE.fullmatch(licence.language):
            raise Invalid(
                _("%(language)r is not a language: write a tag such as en or zh-Hant.")
                % {"language": licence.language}
            )
        if not licence.text.strip() or "\0" in licence.text or len(licence.text) > LONGEST_LICENCE:
            raise Invalid(
                _("The licence text %(name)s is empty, too long or not text: give a UTF-8 text file.")
                % {"name": licence.name}
            )
    found = {(licence.name, licence.language): licence for licence in licences}
    if len(found) != len(licences):
        raise Invalid(_("Two licence texts have the same file name and language: rename one of them."))
    return found
