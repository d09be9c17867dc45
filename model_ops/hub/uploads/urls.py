"""Routes for uploads; `model_ops.urls` puts them before the catch-all routes."""

from __future__ import annotations

from django.urls import path, re_path

from model_ops.hub.uploads import commit, create, lfs, preupload, xet

ID = r"(?P<repo_id>[^/]+/[^/]+)"
REST = r"[\s\S]*"

upload_urls = [
    path("api/repos/create", create.create_repo),
    path("api/validate-yaml", create.validate_yaml),
    path("api/uploads/<str:signed>", lfs.content, name="upload"),
    path("api/uploads/<str:signed>/verify", lfs.verify),
    re_path(rf"^api/models/{ID}/preupload/{REST}$", preupload.preupload),
    re_path(rf"^api/models/{ID}/commit/{REST}$", commit.commit),
    re_path(rf"^api/models/{ID}/branch/{REST}$", create.branch),
    re_path(rf"^api/models/{ID}/xet-write-token/{REST}$", xet.write_token),
    re_path(rf"^{ID}\.git/info/lfs/objects/batch$", lfs.batch),
]
