"""Message templates: texts with placeholders that the reviewers of a model use again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import get_text_list
from django.utils.translation import gettext as _

from access_requests.errors import Conflict, Invalid
from access_requests.models import AccessRequest, GatedModel, MessageTemplate
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_model
from access_requests.storable_text import drop_unstorable

if TYPE_CHECKING:
    from portal.accounts.models import User

PLACEHOLDERS = ("name", "first_name", "institution", "model", "reviewer", "date")
PLACEHOLDER = re.compile(r"\{([^{}\s]*)\}")
MOST_TEMPLATES = 100  # of one model
LONGEST_NAME = 100
LONGEST = 10_000  # characters, as in a message


def save_template(
    *,
    model: GatedModel,
    name: str,
    text: str,
    template: MessageTemplate | None = None,
    actor: User | None = None,
) -> MessageTemplate:
    """Add a message template to a model, or change `template`.

    Raises `Invalid` for a missing name or text, one that is too long, and an unknown placeholder; `Conflict` for a name
    that another template has, a template that was removed, and after `MOST_TEMPLATES`.
    """
    name, text = _cleaned(name, text)
    with recorded():
        lock_model(model.pk)
        others = (
            model.message_templates.exclude(pk=template.pk) if template else model.message_templates.all()
        )
        if others.filter(name=name).exists():
            raise Conflict(_("There is already a template named “%(name)s”.") % {"name": name}, field="name")
        if template is None:
            if len(others) >= MOST_TEMPLATES:
                raise Conflict(
                    _("This model already has %(most)s templates: remove one first.")
                    % {"most": MOST_TEMPLATES}
                )
            saved = MessageTemplate.objects.create(model=model, name=name, text=text)
        else:
            current = model.message_templates.filter(pk=template.pk).first()
            if current is None:
                raise Conflict(_("This template was removed: add it again."))
            if (current.name, current.text) == (name, text):
                return current
            saved, saved.name, saved.text = current, name, text
            saved.save()
        _log_change(model, actor, saved, text)
    return saved


def remove_template(*, template: MessageTemplate, actor: User | None = None) -> None:
    """Remove a template; messages that were written with it stay as they are."""
    with recorded():
        lock_model(template.model_id)
        current = MessageTemplate.objects.filter(pk=template.pk).first()
        if current is not None:
            current.delete()
            _log_change(template.model, actor, current, None)


def fill_template(template: MessageTemplate, *, request: AccessRequest, reviewer: User) -> str:
    """Return the text for this request and reviewer, with every placeholder replaced."""
    values = {
        "name": request.full_name,
        "first_name": request.first_name or request.applicant.first_name or request.full_name,
        "institution": request.institution or request.applicant.institution,
        "model": request.model.repo_id,
        "reviewer": reviewer.get_full_name() or reviewer.username,
        "date": date_format(timezone.now(), "j F Y"),
    }
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template.text)


def _cleaned(name: str, text: str) -> tuple[str, str]:
    """Return name and text as they are stored."""
    name, text = " ".join(drop_unstorable(name).split()), drop_unstorable(text).strip()
    if not name or len(name) > LONGEST_NAME:
        raise Invalid(
            _("Give the template a name of at most %(most)s characters.") % {"most": LONGEST_NAME},
            field="name",
        )
    if not text or len(text) > LONGEST:
        raise Invalid(
            _("Write a text of at most %(most)s characters.") % {"most": f"{LONGEST:,}"}, field="text"
        )
    unknown = [one for one in PLACEHOLDER.findall(text) if one not in PLACEHOLDERS]
    if unknown:
        known = get_text_list([f"{{{one}}}" for one in PLACEHOLDERS], _("and"))
        raise Invalid(
            _("%(unknown)s is not a placeholder. Use %(known)s.")
            % {"unknown": f"{{{unknown[0]}}}", "known": known},
            field="text",
        )
    return name, text


def _log_change(model: GatedModel, actor: User | None, template: MessageTemplate, text: str | None) -> None:
    append_event(
        kind="model.template_changed",
        actor=actor,
        by="operator",
        model=model,
        data={"template": template.name, "words": text},
    )
