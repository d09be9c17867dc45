"""Addresses included before allauth's own, so that the same names here replace them."""

from django.contrib.auth.decorators import login_not_required
from django.urls import path, re_path

from portal import outbox
from portal.accounts import protected, views

urlpatterns = [
    path("accounts/signup/", views.SignupView.as_view(), name="account_signup"),
    path("accounts/sessions/", views.SessionsView.as_view(), name="usersessions_list"),
    path("accounts/suggest-user-name", views.suggest, name="suggest_username"),
    path("accounts/mail-outage", views.mail_outage, name="mail_outage"),
    path("accounts/owner/<str:token>", views.owner, name="owner"),
    path("accounts/reauthenticate/link/", protected.confirm_by_link, name="confirm_by_link"),
    path(
        "accounts/confirm-email/",
        login_not_required(protected.ConfirmEmailView.as_view()),
        name="account_email_verification_sent",
    ),
    path("accounts/password/change/", protected.PasswordChangeView.as_view(), name="account_change_password"),
    path("accounts/password/set/", protected.PasswordSetView.as_view(), name="account_set_password"),
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        protected.PasswordResetFromKeyView.as_view(),
        name="account_reset_password_from_key",
    ),
    path("accounts/2fa/totp/activate/", protected.ActivateTOTPView.as_view(), name="mfa_activate_totp"),
    path("accounts/2fa/totp/deactivate/", protected.DeactivateTOTPView.as_view(), name="mfa_deactivate_totp"),
    path("accounts/2fa/webauthn/add/", protected.AddWebAuthnView.as_view(), name="mfa_add_webauthn"),
    path(
        "accounts/2fa/webauthn/reauthenticate/",
        protected.ReauthenticateWebAuthnView.as_view(),
        name="mfa_reauthenticate_webauthn",
    ),
    path(
        "accounts/2fa/webauthn/keys/<int:pk>/remove/",
        protected.RemoveWebAuthnView.as_view(),
        name="mfa_remove_webauthn",
    ),
    path(
        "accounts/2fa/recovery-codes/generate/",
        protected.GenerateRecoveryCodesView.as_view(),
        name="mfa_generate_recovery_codes",
    ),
    path("me/profile", views.profile, name="profile"),
    path("outbox/", outbox.mails, name="outbox"),
    path("outbox/<int:mail_id>", outbox.mail, name="outbox_mail"),
]
