"""A bucket on loopback: moto's server over real HTTP, which records requests and can refuse some of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

BUCKET = "model-weights"
KEYS = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
Refuses = Callable[[dict[str, Any]], bool]


@dataclass
class Bucket:
    """A bucket that records its requests.

    `asked` holds the WSGI environment of every request; `refuses` picks the requests that get a 400.
    """

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    refuses: Refuses = lambda asked: False

    def settings(self, prefix: str = "") -> dict[str, str]:
        """Return the environment of a portal that serves its files from this bucket."""
        return {
            "GATEHOUSE_DELIVERY": "s3",
            "GATEHOUSE_S3_ENDPOINT": self.url,
            "GATEHOUSE_S3_BUCKET": BUCKET,
            "GATEHOUSE_S3_PREFIX": prefix,
            **KEYS,
        }

    def wrap(self, application: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            self.asked.append(environ)
            if self.refuses(environ):
                start_response("400 Bad Request", [("Content-Type", "application/xml")])
                return [b"<Error><Code>InvalidRequest</Code><Message>Not now.</Message></Error>"]
            return application(environ, start_response)  # type: ignore[no-any-return]

        return answer

    def seen(self, method: str) -> list[dict[str, Any]]:
        return [environ for environ in self.asked if environ["REQUEST_METHOD"] == method]


@contextmanager
def running_bucket() -> Generator[Bucket]:
    """Run an empty bucket until the block ends."""
    pytest.importorskip("moto")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *args: object, **kwargs: object) -> None:
            """Log nothing."""

    bucket = Bucket()
    application = bucket.wrap(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    bucket.url = f"http://localhost:{server.server_port}"  # a different host from the portal's
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
