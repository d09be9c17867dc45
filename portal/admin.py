"""The admin of the whole site; imported by Django before the apps' own."""

from django.contrib import admin

admin.site.site_header = admin.site.site_title = "Gatehouse"
admin.site.index_title = "Requests, models and people"
admin.site.enable_nav_sidebar = False  # the queue and a request's page need the width
