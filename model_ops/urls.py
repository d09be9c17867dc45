"""The Hub's routes, without trailing slashes. Any other path under /api/ gets an error with a code."""

from __future__ import annotations

from django.urls import path, re_path

from model_ops.hub import history, info, models, others, reports, resolve, safetensors, settings, tree, whoami
from model_ops.hub.requests.urls import request_urls
from model_ops.hub.uploads.urls import upload_urls
from model_ops.views import progress

# `gpt2/tree/main` is read as model `gpt2/tree`, also unknown: clients send one-part ids, which we don't have.
ID = r"(?P<repo_id>[^/]+/[^/]+)"
ONE_PART = r"(?P<repo_id>[^/]+)"
KIND = r"(?:datasets|spaces|kernels)"
REST = r"[\s\S]*"

urlpatterns = [
    *request_urls,
    *upload_urls,
    path("robots.txt", others.robots),
    path("api/whoami-v2", whoami.whoami),
    path("api/tokens/report", reports.report),
    path("api/credentials/revoke", reports.revoke),
    path("api/agent-harnesses", others.agent_harnesses),
    re_path(rf"^api/telemetry/{REST}$", others.telemetry),
    path("api/models", models.list_models),
    re_path(rf"^api/models/{ID}$", info.model_info),
    re_path(rf"^api/models/{ID}/revision/{REST}$", info.revision_info),
    re_path(rf"^api/models/{ID}/tree/{REST}$", tree.tree),
    re_path(rf"^api/models/{ID}/paths-info/{REST}$", tree.paths_info),
    re_path(rf"^api/models/{ID}/refs$", history.refs),
    re_path(rf"^api/models/{ID}/commits/{REST}$", history.commits),
    re_path(rf"^api/models/{ID}/auth-check$", whoami.auth_check),
    re_path(rf"^api/models/{ID}/auth-check/write$", whoami.auth_check, {"write": True}),
    re_path(rf"^api/models/{ID}/safetensors-metadata/{REST}$", safetensors.metadata),
    re_path(rf"^api/models/{ID}/settings$", settings.change),
    re_path(rf"^api/models/{ID}/{REST}$", others.unserved_of_model),
    re_path(rf"^api/models/{ONE_PART}$", others.unknown_repo),
    re_path(rf"^api/{KIND}$", others.nothing_of_that_kind),
    re_path(rf"^api/{KIND}/(?P<repo_id>[^/]+(?:/[^/]+)?)(?:/{REST})?$", others.unknown_repo),
    re_path(rf"^api(?:/{REST})?$", others.unserved),
    re_path(rf"^{KIND}/(?P<repo_id>[^/]+(?:/[^/]+)?)/(?:resolve|raw)/{REST}$", others.unknown_repo),
    re_path(rf"^{ID}/resolve/{REST}$", resolve.resolve),
    re_path(rf"^{ID}/raw/{REST}$", resolve.raw),
    re_path(rf"^{ID}/(?:blob|tree|commit|commits|discussions)(?:/{REST})?$", others.page_of_the_hub),
    re_path(rf"^{ONE_PART}/(?:resolve|raw)/{REST}$", others.unknown_repo),
    path("<str:namespace>/<str:name>/access/progress", progress, name="progress"),
]
