"""What a person asks: the form, its way back, the licences, and their own list."""

from django.urls import path

from access_requests.views import licences, mine, requests

urlpatterns = [
    path("me/", mine.mine, name="my_requests"),
    path("<str:namespace>/<str:name>/request", requests.request_form, name="request_form"),
    path("<str:namespace>/<str:name>/request/withdraw", requests.withdraw, name="request_withdraw"),
    path("<str:namespace>/<str:name>/request/appeal", requests.appeal, name="request_appeal"),
    path("<str:namespace>/<str:name>/licences", licences.licences, name="licences"),
    path("<str:namespace>/<str:name>/licences/<int:pk>", licences.licence, name="licence"),
]
