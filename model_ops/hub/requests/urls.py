"""The routes of the access-request API."""

from __future__ import annotations

from django.urls import re_path

from model_ops.hub.requests import asking, decisions, lists

ID = r"(?P<repo_id>[^/]+/[^/]+)"
PAGE = r"^(?P<repo_id>(?!api/)[^/]+/[^/]+)"
API = rf"^api/models/{ID}/user-access-request"

request_urls = [
    re_path(rf"{API}/(?P<place>pending|accepted|rejected|reset)$", lists.request_list),
    re_path(rf"{API}/handle$", decisions.handle),
    re_path(rf"{API}/grant$", decisions.grant),
    re_path(rf"{API}/batch$", decisions.batch),
    re_path(rf"{API}/cancel$", asking.cancel),
    re_path(rf"{PAGE}/ask-access$", asking.ask_access),
    re_path(rf"{PAGE}/user-access-report$", lists.report),
]
