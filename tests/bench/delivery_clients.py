"""Some clients of the delivery benchmark: read orders from standard input, write results to standard output."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from typing import Any
from urllib.parse import urlsplit


def take(order: dict[str, Any], number: int, said: dict[str, int], lock: threading.Lock) -> None:
    """Run one client: HEAD and GET of each of its files on one connection, reopened if it was closed."""
    seeded = order["seeded"]
    names, headers = sorted(seeded["small"]), {"Authorization": f"Bearer {seeded['tokens'][number]}"}
    files = errors = 0
    connection = http.client.HTTPConnection(urlsplit(order["base"]).netloc, timeout=120)
    for turn in range(order["each"]):
        name = names[(number * order["each"] + turn) % len(names)]
        for method in ("HEAD", "GET"):
            try:
                connection.request(method, f"{seeded['path']}/{name}", headers=headers)
                answer = connection.getresponse()
                body = answer.read()
                size = len(body) if method == "GET" else int(answer.headers["Content-Length"])
                errors += (answer.status, size) != (200, seeded["small"][name])
            except (OSError, http.client.HTTPException) as error:
                print(repr(error), file=sys.stderr)
                errors += 1
                connection.close()
        files += 1
    connection.close()
    with lock:
        said["files"] += files
        said["errors"] += errors


def main() -> None:
    order = json.load(sys.stdin)
    said, lock = {"files": 0, "errors": 0}, threading.Lock()
    numbers = range(order["first"], order["first"] + order["share"])
    clients = [threading.Thread(target=take, args=(order, number, said, lock)) for number in numbers]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
