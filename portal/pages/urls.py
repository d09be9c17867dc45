"""The catalogue, a model, and what somebody with a grant sees of it. Included last: a model may have almost any name."""

from django.urls import path

from portal.pages import access, catalogue, model

urlpatterns = [
    path("", catalogue.catalogue, name="catalogue"),
    path("<str:namespace>/<str:name>", model.model_page, name="model_page"),
    path("<str:namespace>/<str:name>/access", access.access_page, name="access_page"),
    path("<str:namespace>/<str:name>/access/token", access.show_token, name="token_show"),
    path("<str:namespace>/<str:name>/access/tokens", access.make_token, name="token_make"),
    path("<str:namespace>/<str:name>/access/tokens/<int:pk>/revoke", access.revoke, name="token_revoke"),
]
