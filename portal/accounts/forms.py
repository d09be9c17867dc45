"""Forms for a person's own account: signing up, the profile, and becoming the owner."""

from __future__ import annotations

from typing import Any

from allauth.account import forms as allauth_forms
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.mfa.base import forms as mfa_forms
from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from portal.accounts.guessing import right_guess
from portal.accounts.models import User
from portal.accounts.names import check_username, clean_name, suggest_username
from portal.accounts.orcid import clean_orcid
from portal.accounts.security import announce_email_change, change_password, reset_password

USERNAME_HELP = gettext_lazy(
    "Public, unlike your email address. If you leave it empty, it is made from your names."
)
PASSWORD_HELP = gettext_lazy("At least 10 characters, not only digits, and not a common password.")
UNREADABLE_NAME = gettext_lazy("Enter your name: these characters cannot be shown.")


class NamesMixin(forms.Form):
    """The two name fields, cleaned of invisible characters."""

    def clean_first_name(self) -> str:
        name = clean_name(self.cleaned_data["first_name"])
        if not name:
            raise ValidationError(UNREADABLE_NAME)
        return name

    def clean_last_name(self) -> str:
        return clean_name(self.cleaned_data["last_name"])


def first_name_field() -> forms.CharField:
    widget = forms.TextInput(attrs={"autocomplete": "given-name"})
    return forms.CharField(label=gettext_lazy("First name"), max_length=200, widget=widget)


def last_name_field() -> forms.CharField:
    widget = forms.TextInput(attrs={"autocomplete": "family-name"})
    return forms.CharField(label=gettext_lazy("Last name"), max_length=200, required=False, widget=widget)


class SignupForm(NamesMixin, allauth_forms.SignupForm):  # type: ignore[misc]
    """allauth's sign-up form with name fields; it does not reveal whether an email address has an account."""

    first_name = first_name_field()
    last_name = last_name_field()
    field_order = ["first_name", "last_name", "username", "email", "password1"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = _("User name")
        self.fields["username"].help_text = USERNAME_HELP
        self.fields["username"].widget.attrs["autocomplete"] = "off"
        self.fields["email"].label = _("Email address")
        self.fields["email"].help_text = _("We send a code to this address.")
        self.fields["password1"].help_text = PASSWORD_HELP


class LoginForm(allauth_forms.LoginForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = _("Email address")


class ResetPasswordForm(allauth_forms.ResetPasswordForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("Email address")


class AddEmailForm(allauth_forms.AddEmailForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].label = _("New address")

    def save(self, request: HttpRequest) -> EmailAddress:
        """Send the code to the new address, and warn the present one while nothing has changed yet."""
        new: EmailAddress = super().save(request)
        announce_email_change(user=self.user, new=new.email, address=client_address())
        return new


class ResetPasswordKeyForm(allauth_forms.ResetPasswordKeyForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP

    def save(self) -> None:
        """Set the password. Raises `Conflict` if the link has been used in the meantime."""
        password = self.cleaned_data["password1"]
        reset_password(user=self.user, key=self.temp_key, password=password, address=client_address())


class ChangePasswordForm(allauth_forms.ChangePasswordForm):  # type: ignore[misc]
    """The form that changes the password.

    The page itself asks for the current password, and guesses at it count like those at sign-in.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP

    def clean_oldpassword(self) -> str:
        adapter = get_adapter()
        password: str = self.cleaned_data["oldpassword"]
        if not adapter.reauthenticate(self.user, password):
            raise adapter.validation_error("enter_current_password")
        return password

    def save(self) -> None:
        """Set the password. Raises `Conflict` if it has been changed in the meantime."""
        password = self.cleaned_data["password1"]
        change_password(user=self.user, password=password, address=client_address())


class SetPasswordForm(allauth_forms.SetPasswordForm):  # type: ignore[misc]
    """The first password of an account that so far signs in by a passkey alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = PASSWORD_HELP

    def save(self) -> None:
        """Set the password. Raises `Conflict` if one has been set in the meantime."""
        password = self.cleaned_data["password1"]
        change_password(user=self.user, password=password, address=client_address())


class CountedCode(forms.Form):
    """A code of a second factor.

    Wrong codes are counted like wrong passwords, so that nobody else can use up the guesses.
    """

    user: User

    def clean_code(self) -> str:
        adapter = get_adapter()
        guess = adapter.guess_at(f"factor:{self.user.pk}")
        adapter.begin(guess, User.objects.filter(pk=self.user.pk))
        code: str = super().clean_code()  # type: ignore[misc]
        right_guess(guess)
        return code


class AuthenticateForm(CountedCode, mfa_forms.AuthenticateForm):  # type: ignore[misc]
    """The code that sign-in asks for."""


class ReauthenticateForm(CountedCode, mfa_forms.ReauthenticateForm):  # type: ignore[misc]
    """The code that a page asks for to confirm that it is still you."""


def client_address() -> str:
    """Return the address that the current request comes from."""
    adapter = get_adapter()
    return str(adapter.get_client_ip(adapter.request))


class ProfileForm(NamesMixin, forms.ModelForm):  # type: ignore[type-arg]
    """The profile, from which request forms are prefilled."""

    first_name = first_name_field()
    last_name = last_name_field()

    class Meta:
        model = User
        fields = ["first_name", "last_name", "username", "institution", "country", "orcid"]
        labels = {"institution": gettext_lazy("Institution"), "country": gettext_lazy("Country")}
        help_texts = {"username": gettext_lazy("Public. Letters, digits, '_', '-' and '.'.")}
        widgets = {"institution": forms.TextInput(attrs={"autocomplete": "organization"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holder = User.objects.get(pk=self.instance.pk)  # full_clean writes into the instance
        self.fields["username"].widget.attrs["autocomplete"] = "off"
        self.fields["country"].widget.attrs["autocomplete"] = "country"
        self.fields["orcid"] = forms.CharField(
            label=_("ORCID iD"), required=False, max_length=60, help_text=_("Such as 0000-0002-1825-0097.")
        )
        self.initial["orcid"] = self.instance.orcid

    def clean_username(self) -> str:
        return check_username(self.cleaned_data["username"], holder=self._holder)

    def clean_institution(self) -> str:
        return clean_name(self.cleaned_data["institution"])

    def clean_orcid(self) -> str:
        return clean_orcid(self.cleaned_data["orcid"])


class OwnerForm(NamesMixin, forms.Form):
    """The first account. Nobody can help its owner yet, so the form explains every field in full."""

    first_name = first_name_field()
    last_name = last_name_field()
    username = forms.CharField(
        label=gettext_lazy("User name"),
        required=False,
        help_text=USERNAME_HELP,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    email = forms.EmailField(
        label=gettext_lazy("Email address"),
        widget=forms.EmailInput(attrs={"autocomplete": "username"}),
        help_text=gettext_lazy("You sign in with it."),
    )
    password = forms.CharField(
        label=gettext_lazy("Password"),
        strip=False,
        help_text=PASSWORD_HELP,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_username(self) -> str:
        username = self.cleaned_data["username"]
        return check_username(username, reserved_too=True) if username else ""

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].lower()
        known = User.objects.filter(email__iexact=email) or EmailAddress.objects.filter(email__iexact=email)
        if known:
            raise ValidationError(
                _("This email address already has an account: enter another one for the owner.")
            )
        return email

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("username") == "" and "first_name" in cleaned:
            cleaned["username"] = suggest_username(
                first_name=cleaned["first_name"], last_name=cleaned.get("last_name", "")
            )
        if "password" in cleaned:
            known = {key: cleaned.get(key, "") for key in ("first_name", "last_name", "username", "email")}
            try:
                validate_password(cleaned["password"], User(**known))
            except ValidationError as error:
                self.add_error("password", error)
        return cleaned
