"""Weight sources as they are typed in the admin; the services judge them."""

from __future__ import annotations

from django import forms

from access_requests.admin.forms import AddModelForm
from model_ops.enums import Compat, Dtype, ResizePolicy

SOURCE_HELP = "A folder below GATEHOUSE_SOURCES, or hf:REPO_ID@REVISION."
WIDE = forms.TextInput(attrs={"class": "vTextField", "size": 80, "spellcheck": "false"})
WEIGHT_FIELDS = ["base", "diff", "files", "dtype", "compat", "resize_policy"]


class WeightsForm(forms.Form):
    """Base and diff, or files as they are."""

    base = forms.CharField(required=False, max_length=1000, widget=WIDE, help_text=SOURCE_HELP)
    diff = forms.CharField(required=False, max_length=1000, widget=WIDE, help_text=SOURCE_HELP)
    files = forms.CharField(
        required=False, max_length=1000, widget=WIDE, help_text=f"{SOURCE_HELP} Instead of base and diff."
    )
    dtype = forms.ChoiceField(choices=Dtype.choices, initial=Dtype.FLOAT32, label="written as")
    compat = forms.ChoiceField(choices=Compat.choices, initial=Compat.WEIGHT_DIFF, label="diff made by")
    resize_policy = forms.ChoiceField(
        choices=ResizePolicy.choices, initial=ResizePolicy.MEAN, label="rows the base lacks"
    )


class AddModelWithWeightsForm(WeightsForm, AddModelForm):
    """The catalogue's form, and where the weights come from."""
