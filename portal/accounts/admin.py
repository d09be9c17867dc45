"""People in the admin; signing in to it goes through allauth, with its limits and second factors."""

from __future__ import annotations

from typing import Any

from allauth.account import admin as account_admin
from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa import admin as mfa_admin  # noqa: F401 - likewise
from allauth.mfa.models import Authenticator
from allauth.socialaccount import admin as socialaccount_admin  # noqa: F401 - registers what is taken out below
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions import admin as session_admin
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth import admin as auth_admin  # noqa: F401 - likewise
from django.contrib.auth.models import Group
from django.http import HttpRequest

from portal.accounts.models import User
from portal.accounts.people import save_account

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
for unused in (Group, Authenticator, SocialAccount, SocialApp, SocialToken, EmailAddress, UserSession):
    if admin.site.is_registered(unused):
        admin.site.unregister(unused)


@admin.register(EmailAddress)
class EmailAddressAdmin(account_admin.EmailAddressAdmin):
    """Addresses of accounts; a new one is given and confirmed by its holder."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(UserSession)
class UserSessionAdmin(session_admin.UserSessionAdmin):
    """Where people are signed in; only signing in begins a session."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class EmailAddressInline(admin.TabularInline):
    model = EmailAddress
    fields = readonly_fields = ["email", "verified", "primary"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(admin.ModelAdmin):
    """Rights and standing of an account; its holder keeps password and second factor on the account pages."""

    list_display = [
        "username",
        "full_name",
        "email",
        "institution",
        "country",
        "is_active",
        "is_staff",
        "date_joined",
    ]
    list_filter = ["is_active", "is_staff", "is_superuser", "imported"]
    search_fields = ["username", "first_name", "last_name", "email", "institution", "orcid"]
    readonly_fields = ["email", "imported", "date_joined", "last_login"]
    inlines = [EmailAddressInline]
    fieldsets = [
        (None, {"fields": ["email", "username", "first_name", "last_name"]}),
        ("Profile", {"fields": ["institution", "country", "orcid"]}),
        ("Rights", {"fields": ["imported", "is_active", "is_staff", "is_superuser", "user_permissions"]}),
        ("Dates", {"fields": ["date_joined", "last_login"]}),
    ]
    filter_horizontal = ["user_permissions"]

    @admin.display(description="name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        save_account(user=obj, actor=request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Only a superuser hands out rights, and nobody to people from elsewhere, who cannot sign in."""
        fields = list(self.readonly_fields)
        may = request.user.is_superuser and not (obj and obj.imported)
        return fields if may else [*fields, "is_staff", "is_superuser", "user_permissions"]


@admin.register(Authenticator)
class AuthenticatorAdmin(admin.ModelAdmin):
    """Second factors: may be removed for somebody who lost theirs; their secrets are never shown."""

    list_display = ["user", "type", "created_at", "last_used_at"]
    list_filter = ["type"]
    search_fields = ["user__username", "user__email"]
    fields = ["user", "type", "created_at", "last_used_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
