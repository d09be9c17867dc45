"""Let nginx send files: we answer with the file's path, and nginx handles ranges and sends it.

docker/nginx/nginx.conf.template is the counterpart: it marks requests, keeps our headers in the location that
serves the store, applies each person's limit there, and logs how each download ended for the download log.
"""

from __future__ import annotations

from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from model_ops.delivery.own import SMALL
from model_ops.delivery.ranges import Span
from model_ops.delivery.ticket import Ticket, begin, whole_blob
from model_ops.enums import DownloadMode
from model_ops.models import RepoFile

STORE = "/gatehouse-store/"  # nginx's internal location of WEIGHTS_ROOT
MARK = "X-Gatehouse-Front"  # set by nginx on requests that it forwards


def is_in_front(request: HttpRequest) -> bool:
    """Return False for a request that did not come through nginx: its answer would have an empty body."""
    return settings.GATEHOUSE_DELIVERY == "nginx" and request.headers.get(MARK) == "nginx"


def answer(request: HttpRequest, file: RepoFile, *, ticket: Ticket, span: Span | None) -> HttpResponse:
    """Return the file's path, the id for nginx's log, and whose limit applies; raise `Damaged` or `Busy`."""
    whole_blob(file)
    response = HttpResponse()
    response["X-Gatehouse-Download"] = begin(file=file, ticket=ticket, span=span, mode=DownloadMode.NGINX)
    if (span.length if span else file.blob.size) > SMALL:
        response["X-Gatehouse-Person"] = ticket.person
    response["X-Accel-Redirect"] = STORE + quote(file.blob.location)
    return response
