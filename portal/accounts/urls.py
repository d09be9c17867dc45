"""Included before allauth's own addresses, of which sign-up is replaced."""

from django.urls import path

from portal import outbox
from portal.accounts import views

urlpatterns = [
    path("accounts/signup/", views.SignupView.as_view(), name="account_signup"),
    path("accounts/suggest-user-name", views.suggest, name="suggest_username"),
    path("accounts/owner/<str:token>", views.owner, name="owner"),
    path("me/profile", views.profile, name="profile"),
    path("outbox/", outbox.mails, name="outbox"),
    path("outbox/<int:mail_id>", outbox.mail, name="outbox_mail"),
]
