"""The catalogue, model pages, and pages for grant holders.

They are included last: a model may have almost any name.
"""

from django.urls import path

from portal.pages import access, catalogue, downloads, model, tokens

urlpatterns = [
    path("", catalogue.catalogue, name="catalogue"),
    path("me/downloads", downloads.my_downloads, name="my_downloads"),
    path("me/downloads.csv", downloads.my_downloads_csv, name="my_downloads_csv"),
    path("me/tokens", tokens.my_tokens, name="my_tokens"),
    path("me/tokens/<int:pk>/rotate", tokens.rotate, name="my_token_rotate"),
    path("me/tokens/<int:pk>/revoke", tokens.revoke, name="my_token_revoke"),
    path("<str:namespace>/<str:name>", model.model_page, name="model_page"),
    path("<str:namespace>/<str:name>/downloads", downloads.model_downloads, name="model_downloads"),
    path(
        "<str:namespace>/<str:name>/downloads.csv", downloads.model_downloads_csv, name="model_downloads_csv"
    ),
    path("<str:namespace>/<str:name>/access", access.access_page, name="access_page"),
    path("<str:namespace>/<str:name>/access/licence", access.accept_licence, name="licence_accept"),
    path("<str:namespace>/<str:name>/access/token", access.show_token, name="token_show"),
    path("<str:namespace>/<str:name>/access/tokens", access.make_token, name="token_make"),
    path("<str:namespace>/<str:name>/access/tokens/<int:pk>/revoke", access.revoke, name="token_revoke"),
]
