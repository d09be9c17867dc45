"""People in the admin. Signing in to it goes through allauth, with its limits and second factors."""

from __future__ import annotations

from typing import Any

from allauth.account import admin as account_admin
from allauth.account.decorators import reauthentication_required, secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa import admin as mfa_admin  # noqa: F401 - likewise
from allauth.mfa.models import Authenticator
from allauth.socialaccount import admin as socialaccount_admin  # noqa: F401 - registers what is replaced below
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions import admin as session_admin
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.auth import admin as auth_admin  # noqa: F401 - likewise
from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.admin.base import signed_in
from access_requests.admin.lists import LongList
from access_requests.errors import RuleError
from access_requests.search import OF_PERSON, holds, network_address, of_people, people_like
from portal.accounts.forms import client_address
from portal.accounts.models import User
from portal.accounts.people import save_account
from portal.accounts.security import (
    TAKEN,
    change_email_by_staff,
    email_is_taken,
    factors_recorded,
    may_change_email_of,
)

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
for unused in (Group, Authenticator, SocialAccount, SocialApp, SocialToken, EmailAddress, UserSession):
    if admin.site.is_registered(unused):
        admin.site.unregister(unused)


class ConfirmedAdmin(LongList):
    """The base of admins where every POST needs a recent confirmation.

    So a stolen session changes no account.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        need_confirmation(request)
        return super().changeform_view(request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        need_confirmation(request)
        return super().changelist_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        need_confirmation(request)
        return super().delete_view(request, *args, **kwargs)


@reauthentication_required(app="allauth.account", enabled=lambda request: request.method == "POST")  # type: ignore[untyped-decorator]
def need_confirmation(request: HttpRequest) -> None:
    """Ask a person who submits something to confirm that it is them, unless they just did."""


class EmailAddressForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "email" in cleaned:
            cleaned["email"] = cleaned["email"].strip().lower()
            if email_is_taken(cleaned["email"], holder=self.instance.user):
                self.add_error("email", TAKEN)
        return cleaned


@admin.register(EmailAddress)
class EmailAddressAdmin(ConfirmedAdmin, account_admin.EmailAddressAdmin):  # type: ignore[misc]
    """The admin of email addresses.

    People change their own; administrators change them for people who lost their mailbox.
    """

    search_help_text = gettext_lazy("A person, or the beginning of an address")
    form = EmailAddressForm
    fields = ["user", "email", "verified", "primary"]
    readonly_fields = ["user", "primary"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = super().has_change_permission(request, obj)
        return may and (obj is None or may_change_email_of(obj.user, actor=signed_in(request)))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def condition(self, term: str) -> Q:
        return of_people("user_id", people_like(term)) | Q(email__startswith=term.lower())

    def save_model(self, request: HttpRequest, obj: EmailAddress, form: Any, change: bool) -> None:
        change_email_by_staff(
            row=obj,
            email=obj.email,
            verified=obj.verified,
            actor=signed_in(request),
            address=client_address(),
        )

    def make_verified(self, request: HttpRequest, queryset: QuerySet[EmailAddress]) -> None:
        """Mark the chosen addresses as confirmed, and record an event for each."""
        for row in queryset.filter(verified=False).select_related("user"):
            try:
                change_email_by_staff(
                    row=row,
                    email=row.email,
                    verified=True,
                    actor=signed_in(request),
                    address=client_address(),
                )
            except RuleError as error:
                text = _("%(email)s: %(problem)s") % {"email": row.email, "problem": error.sentence}
                self.message_user(request, text, level=messages.ERROR)
            else:
                self.message_user(request, _("%(email)s is marked as confirmed.") % {"email": row.email})

    make_verified.short_description = gettext_lazy("Mark as confirmed")  # type: ignore[attr-defined]


@admin.register(UserSession)
class UserSessionAdmin(LongList, session_admin.UserSessionAdmin):  # type: ignore[misc]
    """The admin of sessions. Only signing in creates one."""

    search_help_text = gettext_lazy("A person, or a network address in full")

    def condition(self, term: str) -> Q:
        found, address = of_people("user_id", people_like(term)), network_address(term)
        return found | Q(ip=address) if address else found

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class EmailAddressInline(admin.TabularInline):  # type: ignore[type-arg]
    model = EmailAddress
    fields = readonly_fields = ("email", "verified", "primary")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(ConfirmedAdmin):
    """The admin of accounts: their rights and status.

    People change their own password and second factor on the account pages.
    """

    list_display = [
        "username",
        "full_name",
        "email",
        "institution",
        "country_name",
        "is_active",
        "is_superuser",
        "date_joined",
    ]
    list_filter = ["is_active", "is_superuser", "imported"]
    search_fields = ["username"]  # shows the search field; `condition` says which columns are searched
    search_help_text = gettext_lazy("Names, email address, institution, ORCID iD")
    readonly_fields = ["email", "imported", "date_joined", "last_login"]
    inlines = [EmailAddressInline]
    fieldsets = [
        (None, {"fields": ["email", "username", "first_name", "last_name"]}),
        (gettext_lazy("Profile"), {"fields": ["institution", "country", "orcid"]}),
        (
            gettext_lazy("Rights"),
            {"fields": ["imported", "is_active", "is_superuser", "user_permissions"]},
        ),
        (gettext_lazy("Dates"), {"fields": ["date_joined", "last_login"]}),
    ]
    filter_horizontal = ["user_permissions"]

    def condition(self, term: str) -> Q:
        return holds(OF_PERSON, term)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Fetch the permissions with their content types, whose names begin the labels of the choices."""
        kwargs.setdefault("queryset", Permission.objects.select_related("content_type"))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    @admin.display(description=gettext_lazy("country"), ordering="country")
    def country_name(self, user: User) -> str:
        return user.country.name if user.country else ""

    @admin.display(description=gettext_lazy("name"))
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        save_account(user=obj, actor=signed_in(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Return the read-only fields.

        Only superusers grant rights, and nobody grants any to imported people, who cannot sign in.
        """
        fields = list(self.readonly_fields)
        may = request.user.is_superuser and not (obj and obj.imported)
        return fields if may else [*fields, "is_superuser", "user_permissions"]


@admin.register(Authenticator)
class AuthenticatorAdmin(ConfirmedAdmin):
    """The admin of second factors. Administrators remove them for people who lost theirs; secrets are never shown."""

    list_display = ["user", "type", "created_at", "last_used_at"]
    list_filter = ["type"]
    search_fields = ["user"]  # shows the search field; `condition` says which columns are searched
    fields = ["user", "type", "created_at", "last_used_at"]

    def condition(self, term: str) -> Q:
        return of_people("user_id", people_like(term))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        with factors_recorded(user=obj.user, actor=signed_in(request), address=client_address()):
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Authenticator]) -> None:
        for factor in queryset.select_related("user"):
            self.delete_model(request, factor)
