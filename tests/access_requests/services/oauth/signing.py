"""Sign in by the device flow, step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from access_requests.errors import RuleError
from access_requests.models import DeviceCode
from access_requests.services.oauth import codes, machines
from access_requests.services.oauth.errors import OAuthError

CLIENT = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"


def begin(client_id: str = CLIENT) -> codes.Begun:
    return codes.begin_sign_in(client_id=client_id, client="python-httpx2/1.0", address="203.0.113.7")


def find(begun: codes.Begun, user: Any) -> DeviceCode:
    return codes.find_waiting(typed=begun.code.user_code, user=user, address="203.0.113.7")


def fetch(begun: codes.Begun, client_id: str = CLIENT) -> machines.Pair:
    return codes.fetch_tokens(device_code=begun.device_code, client_id=client_id)


def signed_in(user: Any, name: str = "laptop") -> machines.Pair:
    begun = begin()
    codes.approve(code=find(begun, user), user=user, name=name)
    return fetch(begun)


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Run `act` in this many threads at once; return each result, or the class of the rule's error."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait(60)
            results.append(act(number))
        except RuleError as error:
            results.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def refresh_refused(secret: str) -> str:
    with pytest.raises(OAuthError) as raised:
        machines.refresh(secret=secret)
    assert raised.value.code == "invalid_grant"
    return raised.value.sentence
