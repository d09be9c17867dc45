"""URLs of the request form, withdrawing and appealing, licences, signing in, and a person's own list."""

from django.urls import path

from access_requests.views import licences, machines, messages, mine, oauth_api, requests, trusted

urlpatterns = [
    path("me/", mine.mine, name="my_requests"),
    path("me/machines", machines.machines, name="machines"),
    path("me/machines/<int:pk>/sign-out", machines.machine_sign_out, name="machine_sign_out"),
    path("me/trusted", trusted.trusted, name="trusted"),
    path("me/trusted/<int:pk>/remove", trusted.trusted_remove, name="trusted_remove"),
    path("oauth/activate", machines.activate, name="oauth_activate"),
    path("oauth/device", oauth_api.device, name="oauth_device"),
    path("oauth/token", oauth_api.token, name="oauth_token"),
    path("oauth/revoke", oauth_api.revoke, name="oauth_revoke"),
    path(".well-known/oauth-authorization-server", oauth_api.metadata, name="oauth_metadata"),
    path("<str:namespace>/<str:name>/request", requests.request_form, name="request_form"),
    path("<str:namespace>/<str:name>/request/submissions", requests.submissions, name="request_submissions"),
    path("<str:namespace>/<str:name>/request/messages", messages.request_messages, name="request_messages"),
    path("<str:namespace>/<str:name>/request/withdraw", requests.withdraw, name="request_withdraw"),
    path("<str:namespace>/<str:name>/request/appeal", requests.appeal, name="request_appeal"),
    path("<str:namespace>/<str:name>/licences", licences.licences, name="licences"),
    path("<str:namespace>/<str:name>/licences/<int:pk>", licences.licence, name="licence"),
]
