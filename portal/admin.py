"""Titles of the whole site's admin. Django imports this module before the apps' own."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

admin.site.site_header = admin.site.site_title = "Gatehouse"
admin.site.index_title = _("Requests, models and people")
admin.site.enable_nav_sidebar = False  # the queue and request pages need the width
