"""The owners' forms in the admin. They read the input; the services validate it."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.cards import ROLE_TYPES, GateField
from access_requests.enums import Role
from access_requests.errors import RuleError
from access_requests.models import GatedModel
from access_requests.services.catalogue.edit import FieldChoice
from access_requests.services.catalogue.gated_models import LicenceText

LARGEST_FILE = 8 * 2**20  # bytes
WIDE = forms.Textarea(
    attrs={"rows": 24, "cols": 110, "class": "vLargeTextField card-text", "spellcheck": "false"}
)


def read_upload(upload: Any) -> str:
    """Return the text of an uploaded file exactly as it is, without a byte-order mark."""
    if upload.size > LARGEST_FILE:
        raise ValidationError(
            _("%(name)s is larger than %(limit)s bytes: give a text file.")
            % {"name": upload.name, "limit": f"{LARGEST_FILE:,}"}
        )
    try:
        return str(upload.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValidationError(
            _("%(name)s is not UTF-8 text (byte %(position)d): save it as UTF-8.")
            % {"name": upload.name, "position": error.start}
        ) from error


class CardField(forms.CharField):
    """A README.md, with `\\n` line ends instead of the browser's."""

    widget = WIDE

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, **options)

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n").replace("\r", "\n")


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that shows a service's refusal: the admin sets `rule_error` before it shows the form again."""

    rule_error: RuleError | None = None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.rule_error is not None:
            field = self.rule_error.field if self.rule_error.field in self.fields else None
            self.add_error(field, self.rule_error.sentence)
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """Exclude the id from Django's unique check: the service refuses duplicates, in a sentence."""
        return {*super()._get_validation_exclusions(), "repo_id"}  # type: ignore[misc]


class AddModelForm(ServiceForm):
    card = CardField(
        help_text=gettext_lazy(
            "The whole README.md, including the front matter. Its extra_gated_* keys become the form."
        )
    )
    licence_file = forms.FileField(
        required=False,
        help_text=gettext_lazy(
            "The text to agree to (UTF-8). More can be added afterwards. Without one, the card's extra_gated_prompt is used."
        ),
    )
    licence_language = forms.CharField(
        initial="en",
        max_length=35,
        help_text=gettext_lazy("Language of the licence text, such as en or zh-Hant."),
    )

    class Meta:
        model = GatedModel
        fields = ["repo_id", "gate", "grant_days", "listed"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        cleaned["licences"] = []
        if upload := cleaned.get("licence_file"):
            try:
                text = LicenceText(upload.name, cleaned.get("licence_language", ""), read_upload(upload))
                cleaned["licences"] = [text]
            except ValidationError as error:
                self.add_error("licence_file", error)
        return cleaned


class ChangeModelForm(ServiceForm):
    card = CardField(
        help_text=gettext_lazy(
            "A card that cannot be read is refused, and the last good form stays. If you change the card, it is read again."
        )
    )

    class Meta:
        model = GatedModel
        fields = ["repo_id", "card", "gate", "grant_days", "approvals", "listed"]
        help_texts = {
            "repo_id": gettext_lazy("Clients and pages that use a former id are redirected to the new one.")
        }


class PersonForm(forms.Form):
    """Someone who gets a role for the model, named by email address: a list of accounts would show owners who is here."""

    email = forms.CharField(
        max_length=254,
        label=gettext_lazy("Email address"),
        help_text=gettext_lazy("If the address has no account here, the person is invited by email."),
    )
    role = forms.ChoiceField(
        choices=Role.choices,
        initial=Role.REVIEWER,
        label=gettext_lazy("Role"),
        help_text=gettext_lazy(
            "Reviewers decide requests and may download. Owners also change the model, its people and its weights. "
            "Auditors read requests, the log and downloads, and change nothing."
        ),
    )


class FamilyForm(forms.Form):
    """A family: its name and its other models, among those of the namespace that the person owns."""

    name = forms.CharField(
        max_length=100,
        label=gettext_lazy("Name"),
        help_text=gettext_lazy("Applicants see it, such as Tulu 2."),
    )
    others = forms.ModelMultipleChoiceField(
        queryset=GatedModel.objects.none(),
        label=gettext_lazy("Other models"),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": gettext_lazy("Choose at least one other model.")},
    )

    def __init__(self, person: Any, model: GatedModel, data: Any = None) -> None:
        members = model.family.models.exclude(pk=model.pk) if model.family else GatedModel.objects.none()
        super().__init__(data, initial={"name": model.family.name if model.family else "", "others": members})
        rows = GatedModel.objects.filter(repo_id__istartswith=f"{model.namespace}/").exclude(pk=model.pk)
        if not person.is_superuser:
            rows = rows.filter(roles__user=person, roles__role=Role.OWNER)
        field = cast("forms.ModelMultipleChoiceField[GatedModel]", self.fields["others"])
        field.queryset = rows.defer("card", "card_data").order_by("repo_id")


class TemplateForm(forms.Form):
    """A message template; the service checks the placeholders."""

    name = forms.CharField(max_length=100, required=False, label=gettext_lazy("Name"))
    text = forms.CharField(
        required=False,
        label=gettext_lazy("Text"),
        widget=forms.Textarea(attrs={"rows": 8, "cols": 80, "dir": "auto"}),
        help_text=gettext_lazy(
            "Placeholders: {name}, {first_name} and {institution} of the applicant, {model}, {reviewer}, {date}."
        ),
    )


class LicenceForm(forms.Form):
    """One licence text, uploaded or typed."""

    name = forms.CharField(
        max_length=200,
        required=False,
        help_text=gettext_lazy("File name, such as LICENSE.txt. For an upload, the name of the file."),
        label=gettext_lazy("Name"),
    )
    language = forms.CharField(
        max_length=35,
        initial="en",
        help_text=gettext_lazy("Such as en or zh-Hant."),
        label=gettext_lazy("Language"),
    )
    file = forms.FileField(required=False, label=gettext_lazy("File"))
    text = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "cols": 100, "dir": "auto"}),
        label=gettext_lazy("Text"),
    )
    binding = forms.BooleanField(
        required=False,
        label=gettext_lazy("This language binds"),
        help_text=gettext_lazy(
            "Texts of one name are one licence in several languages. The first one binds, and the others are translations, unless you say otherwise here."
        ),
    )
    must_accept = forms.BooleanField(
        required=False,
        label=gettext_lazy("Must be accepted again"),
        help_text=gettext_lazy(
            "Everyone with access gets an email and cannot download until they agree. This does not affect owners and reviewers."
        ),
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if upload := cleaned.get("file"):
            cleaned["text"] = read_upload(upload)
            cleaned["name"] = cleaned.get("name") or upload.name
        else:
            cleaned["text"] = cleaned.get("text", "").replace("\r\n", "\n")
        if not cleaned.get("name"):
            self.add_error("name", _("Give the text a file name."))
        return cleaned


class FieldForm(forms.Form):
    """An owner's choice for one field: its role in the portal, and whether it is required."""

    role = forms.ChoiceField(required=False, label=gettext_lazy("Role"))
    required = forms.BooleanField(required=False, label=gettext_lazy("Required"))

    def __init__(self, field: GateField, data: Any = None) -> None:
        super().__init__(data, prefix=field.key, initial={"role": field.role, "required": field.required})
        declared = field.declared or field.type
        fitting = [role for role, types in ROLE_TYPES.items() if declared in types]
        cast("forms.ChoiceField", self.fields["role"]).choices = [
            ("", _("nothing special")),
            *((role, role.replace("_", " ")) for role in fitting),
        ]
        for bound in self.fields.values():
            bound.widget.attrs["aria-label"] = f"{field.key}: {bound.label}"

    def choice(self) -> FieldChoice:
        return FieldChoice(role=self.cleaned_data["role"], required=self.cleaned_data["required"])
