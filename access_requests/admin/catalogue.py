"""Gated models in the admin.

All input goes through the services, so a refusal changes nothing and says why.
"""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.access.permissions import is_owner
from access_requests.admin.base import (
    ReadOnlyAdmin,
    number_of,
    posted_key,
    say,
    sees_any_model,
    shown_number,
    signed_in,
)
from access_requests.admin.forms import (
    AddModelForm,
    ChangeModelForm,
    FieldForm,
    LicenceForm,
    PersonForm,
    TemplateForm,
)
from access_requests.cards import GateForm
from access_requests.enums import WAITING_STATES, Role
from access_requests.errors import NotFound, RuleError
from access_requests.models import AccessRequest, GatedModel, Grant, LicenceVersion
from access_requests.services.catalogue.edit import (
    add_licence,
    change_fields,
    change_settings,
    retire_licence,
)
from access_requests.services.catalogue.gated_models import LicenceText, add_model, prepare_card, update_card
from access_requests.services.catalogue.languages import bind_language, current_licences
from access_requests.services.catalogue.message_texts import remove_template, save_template
from access_requests.services.catalogue.names import rename_model
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.catalogue.roles import add_person, remove_person


class LicenceInline(admin.TabularInline):  # type: ignore[type-arg]
    model = LicenceVersion
    fields = readonly_fields = ("text_link", "language", "binding", "digest", "created_at", "retired_at")
    extra = 0
    can_delete = False
    verbose_name_plural = gettext_lazy("licence texts (immutable; a change makes a new version)")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LicenceVersion]:
        return super().get_queryset(request).defer("text").select_related("model")

    @admin.display(description=gettext_lazy("text"))
    def text_link(self, licence: LicenceVersion) -> SafeString:
        address = reverse("licence", args=[licence.model.namespace, licence.model.name, licence.pk])
        return format_html('<a href="{}">{}</a>', address, licence.name)

    @admin.display(description="SHA-256")
    def digest(self, licence: LicenceVersion) -> SafeString:
        return format_html('<code class="digest">{}</code>', licence.sha256)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class GatedModelAdmin(ReadOnlyAdmin):
    """Gated models.

    Another room overrides `published`, called after a change of card, licences or settings.
    """

    to_model = ""  # each row is itself a model
    list_display = ["repo_id", "gate", "grant_days", "listed", "to_decide", "with_access"]
    list_filter = ["gate", "listed"]
    search_fields = ["repo_id"]
    list_per_page = 50
    readonly_fields = ["how_read", "page_link"]
    inlines = [LicenceInline]
    change_form_template = "admin/access_requests/gatedmodel/change_form.html"
    add_fields: list[str] = [
        "repo_id",
        "card",
        "licence_file",
        "licence_language",
        "gate",
        "grant_days",
        "listed",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[GatedModel]:
        rows: QuerySet[GatedModel] = admin.ModelAdmin.get_queryset(self, request).defer("card", "card_data")
        waiting = AccessRequest.objects.filter(model=OuterRef("pk"), state__in=WAITING_STATES)
        live = Grant.objects.filter(model=OuterRef("pk"), closed_at__isnull=True)
        rows = rows.annotate(waiting_count=number_of(waiting, "model"), grant_count=number_of(live, "model"))
        return rows if request.user.is_superuser else rows.filter(roles__user=signed_in(request))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return sees_any_model(request) or self.has_add_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: GatedModel | None = None) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: GatedModel | None = None) -> bool:
        return sees_any_model(request) if obj is None else is_owner(request.user, obj)

    @admin.display(description=gettext_lazy("to decide"), ordering="waiting_count")
    def to_decide(self, model: GatedModel) -> SafeString | int:
        waiting: int = model.waiting_count  # type: ignore[attr-defined]
        if not waiting:
            return 0
        queue = reverse("admin:access_requests_accessrequest_changelist")
        return format_html(
            '<a href="{}?{}">{}</a>',
            queue,
            urlencode({"state": "waiting", "model": model.repo_id}),
            shown_number(waiting),
        )

    @admin.display(description=gettext_lazy("people with access"), ordering="grant_count")
    def with_access(self, model: GatedModel) -> str:
        return shown_number(model.grant_count)  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("form, as it was read"))
    def how_read(self, model: GatedModel) -> SafeString:
        if model.form is None:
            return format_html("{}", _("no form"))
        lines = GateForm.from_json(model.form.schema).describe()
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((line,) for line in lines)))

    @admin.display(description=gettext_lazy("page"))
    def page_link(self, model: GatedModel) -> SafeString:
        return format_html('<a href="{}">{}</a>', model.get_absolute_url(), model.address())

    def get_form(
        self, request: HttpRequest, obj: GatedModel | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return super().get_form(request, obj, change, **kwargs)
        form = super().get_form(request, obj, change, form=self.form_for(obj), **kwargs)
        form.rule_error = getattr(request, "rule_error", None)  # type: ignore[attr-defined]
        return form

    def form_for(self, obj: GatedModel | None) -> type[AddModelForm | ChangeModelForm]:
        return ChangeModelForm if obj else AddModelForm

    def get_fieldsets(self, request: HttpRequest, obj: GatedModel | None = None) -> list[Any]:
        if obj is None:
            return [(None, {"fields": self.add_fields})]
        return [
            (
                None,
                {
                    "fields": [
                        "repo_id",
                        "page_link",
                        "gate",
                        "grant_days",
                        "approvals",
                        "listed",
                    ]
                },
            ),
            (_("Card and form"), {"fields": ["card", "how_read"]}),
        ]

    def get_inlines(self, request: HttpRequest, obj: GatedModel | None) -> list[Any]:
        return list(self.inlines) if obj else []

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show a service's refusal as the form's own error, with everything rolled back."""
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except RuleError as error:
            request.rule_error = error  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: GatedModel, form: Any, change: bool) -> None:
        given = form.cleaned_data
        if not change:
            self.add(request, obj, given)
            return
        stored = GatedModel.objects.get(pk=obj.pk)
        card = None
        if "card" in form.changed_data:  # rendered before any lock is taken
            card = prepare_card(given["card"], repo_id=given["repo_id"], replaces=stored.card)
        if "repo_id" in form.changed_data:  # first: ids are locked before the model's row
            rename_model(model=stored, to=given["repo_id"], actor=signed_in(request))
        if card is not None:
            read = update_card(model=stored, card=card, actor=signed_in(request))
            for warning in read.warnings:
                messages.warning(request, warning)
        settings = {name: given[name] for name in ("gate", "grant_days", "approvals", "listed")}
        change_settings(model=stored, actor=signed_in(request), **settings)
        self.published(request, stored)

    def add(self, request: HttpRequest, obj: GatedModel, given: dict[str, Any]) -> None:
        """Add the model, with the person who adds it as its first owner."""
        made = self.make(request, given, self.fields_of(request, given))
        obj.__dict__.update(made.__dict__)

    def fields_of(self, request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
        """Return the form's input as arguments for the service."""
        return {
            "repo_id": given["repo_id"],
            "card": given["card"],
            "licences": given["licences"],
            "gate": given["gate"],
            "days": given["grant_days"],
            "listed": given["listed"],
            "owner": signed_in(request),
            "actor": signed_in(request),
        }

    def make(self, request: HttpRequest, given: dict[str, Any], fields: dict[str, Any]) -> GatedModel:
        """Add the catalogue entry only; a room with weights adds those."""
        return add_model(**fields)

    def published(self, request: HttpRequest, model: GatedModel) -> None:
        """Do nothing: a hook, called inside the transaction when card, licences or settings have changed."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
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
        }
        context.setdefault("title", titles.get(name, name))
        return TemplateResponse(request, f"admin/access_requests/gatedmodel/{name}.html", context)
