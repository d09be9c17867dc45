"""The pages of one model in the admin: licence texts, form fields, message templates, people, family."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from access_requests.admin.base import (
    ReadOnlyAdmin,
    posted_key,
    say,
    signed_in,
)
from access_requests.admin.forms import (
    FamilyForm,
    FieldForm,
    LicenceForm,
    PersonForm,
    TemplateForm,
)
from access_requests.cards import GateForm
from access_requests.enums import Role
from access_requests.errors import NotFound, RuleError
from access_requests.models import GatedModel
from access_requests.services.catalogue.edit import (
    add_licence,
    change_fields,
    retire_licence,
)
from access_requests.services.catalogue.families import end_family, set_family
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.languages import bind_language, current_licences
from access_requests.services.catalogue.message_texts import remove_template, save_template
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.catalogue.roles import add_person, remove_person


class ModelPages(ReadOnlyAdmin):
    """Pages beside the change form of a model; each calls a service and shows its refusal."""

    def published(self, request: HttpRequest, model: GatedModel) -> None:
        """Do nothing: a hook, called inside the transaction when card, licences or settings have changed."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path(
                "<path:object_id>/family/", wrap(self.family_view), name="access_requests_gatedmodel_family"
            ),
            path(
                "<path:object_id>/licences/",
                wrap(self.licences_view),
                name="access_requests_gatedmodel_licences",
            ),
            path("<path:object_id>/form/", wrap(self.fields_view), name="access_requests_gatedmodel_form"),
            path(
                "<path:object_id>/people/", wrap(self.people_view), name="access_requests_gatedmodel_people"
            ),
            path(
                "<path:object_id>/templates/",
                wrap(self.templates_view),
                name="access_requests_gatedmodel_templates",
            ),
        ]
        return [*own, *super().get_urls()]

    def licences_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the current licence texts, with buttons to retire them, and a form for a new text or version."""
        model = self._owned(request, object_id)
        if model is None:
            return self.not_there(request, object_id)
        form = (
            LicenceForm(request.POST or None, request.FILES or None)
            if not {"retire", "bind"} & request.POST.keys()
            else LicenceForm()
        )
        if request.method == "POST" and (not form.is_bound or form.is_valid()):
            try:
                with transaction.atomic():
                    self._change_licences(request, model, form)
                    self.published(request, model)
                return redirect("admin:access_requests_gatedmodel_licences", model.pk)
            except RuleError as error:
                say(request, error)
        return self._page(request, model, "licences", {"form": form, "licences": current_licences(model)})

    def _change_licences(self, request: HttpRequest, model: GatedModel, form: LicenceForm) -> None:
        if not form.is_bound:
            number = request.POST.get("retire") or request.POST.get("bind", "")
            licence = model.licence_versions.filter(pk=posted_key(number)).first()
            if licence is not None and "bind" in request.POST:
                bind_language(model=model, licence=licence, actor=signed_in(request))
                messages.success(
                    request,
                    _("The text of %(name)s in %(language)s binds now.")
                    % {"name": licence.name, "language": licence.language},
                )
            elif licence is not None:
                retire_licence(model=model, licence=licence, actor=signed_in(request))
                messages.success(
                    request,
                    _("%(name)s is retired. The portal still records who accepted it.")
                    % {"name": licence.name},
                )
            return
        text = LicenceText(
            form.cleaned_data["name"],
            form.cleaned_data["language"],
            form.cleaned_data["text"],
            binding=form.cleaned_data["binding"] or None,
        )
        added = add_licence(
            model=model, licence=text, must_accept=form.cleaned_data["must_accept"], actor=signed_in(request)
        )
        if added.fresh:
            messages.success(
                request,
                _("%(name)s is now the current text. New applicants must agree to it.") % {"name": text.name},
            )
        else:
            messages.info(request, _("%(name)s already has exactly this text.") % {"name": text.name})
        if form.cleaned_data["must_accept"]:
            messages.info(
                request,
                _("People with access who must now agree to it and got an email: %(count)d.")
                % {"count": added.asked},
            )

    def family_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Group the model with others of its namespace that the visitor owns, for one request form."""
        model = self._owned(request, object_id)
        if model is None:
            return self.not_there(request, object_id)
        form = FamilyForm(signed_in(request), model, request.POST or None)
        if request.method == "POST" and ("end" in request.POST or form.is_valid()):
            try:
                if "end" in request.POST:
                    end_family(model=model, actor=signed_in(request))
                    messages.success(request, _("The family is ended. Requests stay as they are."))
                else:
                    set_family(model=model, actor=signed_in(request), **form.cleaned_data)
                    messages.success(
                        request, _("Saved. New requests can ask for these models with one form.")
                    )
                return redirect("admin:access_requests_gatedmodel_family", model.pk)
            except RuleError as error:
                form.add_error(error.field if error.field in form.fields else None, error.sentence)
        return self._page(request, model, "family", {"form": form})

    def people_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show who has a role, and whether they have a second factor; owners add, change and remove people."""
        model = self.get_object(request, unquote(object_id))
        if model is None or not self.has_view_permission(request, model):
            return self.not_there(request, object_id)
        mine = self.has_change_permission(request, model)
        form = PersonForm(request.POST if "add" in request.POST else None)
        if request.method == "POST" and mine and (not form.is_bound or form.is_valid()):
            try:
                messages.success(request, self._change_people(request, model, form))
                return redirect("admin:access_requests_gatedmodel_people", model.pk)
            except RuleError as error:
                if form.is_bound and error.field in form.fields:
                    form.add_error(error.field, error.sentence)
                else:
                    say(request, error)
        with_factor = Exists(Authenticator.objects.filter(user=OuterRef("user")))
        people = model.roles.select_related("user").annotate(second_factor=with_factor)
        context = {
            "form": form,
            "people": people.order_by("role", "user__username"),
            "mine": mine,
            "roles": Role.choices,
        }
        return self._page(request, model, "people", context)

    def _change_people(self, request: HttpRequest, model: GatedModel, form: PersonForm) -> str:
        """Do what the button says, and return the sentence about it."""
        actor = signed_in(request)
        if form.is_bound:
            typed = form.cleaned_data
            added = add_person(model=model, email=typed["email"], role=typed["role"], actor=actor)
            done = _("Added %(person)s as %(role)s. They are informed by email.")
            if added.invited:
                done = _("Added %(person)s as %(role)s. They get an email with a link to set a password.")
            return done % {"person": added.person.email, "role": Role(added.role).label}
        number = request.POST.get("person", "")
        held = model.roles.filter(user_id=posted_key(number))
        role = held.select_related("user").first()
        if role is None:
            raise NotFound(_("This person has no role any more."))
        if "remove" in request.POST:
            remove_person(model=model, user=role.user, actor=actor)
            return _("Removed %(person)s. They are informed by email.") % {"person": role.user.email}
        chosen = request.POST.get("role", "")
        added = add_person(model=model, email=role.user.email, role=chosen, actor=actor)
        return _("Changed %(person)s to %(role)s. They are informed by email.") % {
            "person": role.user.email,
            "role": Role(added.role).label,
        }

    def templates_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the message templates, to change or remove, and a form for a new one; `?template=ID` opens one."""
        model = self._owned(request, object_id)
        if model is None:
            return self.not_there(request, object_id)
        number = request.GET.get("template", "")
        known = model.message_templates.filter(pk=posted_key(number)).first()
        stored = {"name": known.name, "text": known.text} if known else None
        form = TemplateForm(request.POST or None, initial=stored)
        if request.method == "POST" and form.is_valid():
            given, actor = form.cleaned_data, signed_in(request)
            try:
                if "remove" in request.POST and known:
                    remove_template(template=known, actor=actor)
                    done = _("The template “%(name)s” is removed.") % {"name": known.name}
                else:
                    saved = save_template(model=model, template=known, actor=actor, **given)
                    done = _("The template “%(name)s” is saved.") % {"name": saved.name}
            except RuleError as error:
                form.add_error(error.field or None, error.sentence)
            else:
                messages.success(request, done)
                return redirect("admin:access_requests_gatedmodel_templates", model.pk)
        rows = model.message_templates.all()
        return self._page(request, model, "templates", {"form": form, "templates": rows, "known": known})

    def fields_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show how each field of the card was read, and let the owner correct it."""
        model = self._owned(request, object_id)
        if model is None or model.form is None:
            return self.not_there(request, object_id)
        gate, texts = GateForm.from_json(model.form.schema), gate_texts_of(model.form)
        rows = [
            (field, texts.words.get(field.key, ""), FieldForm(field, request.POST or None))
            for field in gate.fields
        ]
        if request.method == "POST" and all(form.is_valid() for _field, _label, form in rows):
            try:
                change_fields(
                    model=model,
                    choices={field.key: form.choice() for field, _label, form in rows},
                    actor=signed_in(request),
                )
            except RuleError as error:
                say(request, error)
            else:
                messages.success(
                    request, _("New requests use this form. Requests already started keep their form.")
                )
                return redirect("admin:access_requests_gatedmodel_form", model.pk)
        return self._page(request, model, "form", {"rows": rows, "gate": gate})

    def _owned(self, request: HttpRequest, object_id: str) -> GatedModel | None:
        model = self.get_object(request, unquote(object_id))
        return model if model is not None and self.has_change_permission(request, model) else None

    def _page(
        self, request: HttpRequest, model: GatedModel, name: str, extra: dict[str, Any]
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "model": model,
            "original": model,
            "opts": self.opts,
            **extra,
        }
        titles = {
            "licences": _("Licence texts"),
            "form": _("Form fields"),
            "templates": _("Message templates"),
            "people": _("People"),
            "family": _("Family"),
        }
        context.setdefault("title", titles.get(name, name))
        return TemplateResponse(request, f"admin/access_requests/gatedmodel/{name}.html", context)
