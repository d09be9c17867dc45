"""Every address of the site, in the order in which they are matched."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from portal.health import healthz

handler400 = "portal.errors.bad_request"
handler403 = "portal.errors.permission_denied"
handler404 = "portal.errors.not_found"
handler500 = "portal.errors.server_error"

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("", include("portal.accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("", include("model_ops.urls")),
    path("", include("access_requests.urls")),
    path("", include("portal.pages.urls")),
]
