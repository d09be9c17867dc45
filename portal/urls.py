"""Every address of the site, in the order in which they are tried."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from portal.health import healthz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("admin/", admin.site.urls),
    path("", include("portal.accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("", include("model_ops.urls")),
    path("", include("access_requests.urls")),
    path("", include("portal.pages.urls")),
]
