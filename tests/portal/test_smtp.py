"""Each conversation with a mail server ends, whatever the server does."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

import pytest
from django.core import mail
from django.core.mail import EmailMessage

from access_requests.services.emails.send import _new_backend
from portal import smtp
from tests.certificates import write_certificate
from tests.smtp import SmtpServer, serving

MESSAGE = ("Subject", "Text", "us@example.org", ["ada@example.org"])


@pytest.fixture
def server(mail_through: Callable[..., None]) -> Generator[SmtpServer]:
    with serving() as started:
        mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=started.port, timeout=20)
        yield started


def test_emails_of_one_backend_share_a_connection(server: SmtpServer) -> None:
    backend = _new_backend()
    backend.open()
    assert [backend.send_messages([EmailMessage(*MESSAGE)]) for _ in range(3)] == [1, 1, 1]
    backend.close()
    assert (server.subjects, len(server.commands)) == (["Subject"] * 3, 1)
    assert server.commands[0][-1].upper() == "QUIT"


@pytest.mark.parametrize("when", ["CONNECT", "MAIL", "DATA", "END"])
@pytest.mark.parametrize("how", ["hang", "drip"])
def test_conversation_that_takes_too_long_is_cut_off(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch, how: str, when: str
) -> None:
    monkeypatch.setattr(smtp, "LONGEST", 0.5)
    server.say[when] = getattr(server, how)
    backend = _new_backend()
    with pytest.raises(TimeoutError, match="took longer than"):
        backend.send_messages([EmailMessage(*MESSAGE)])
    assert server.emails == []


def test_server_that_is_silent_at_the_farewell_holds_nobody_up(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "FAREWELL", 0.2)
    backend = _new_backend()
    backend.open()
    assert backend.send_messages([EmailMessage(*MESSAGE)]) == 1
    server.say["QUIT"] = server.hang
    with suppress(TimeoutError):
        backend.close()
    assert server.hanging.wait(60)
    assert server.subjects == ["Subject"]


def test_refusals_come_through_as_they_are(server: SmtpServer) -> None:
    server.say["RCPT ada@example.org"] = "550 5.1.1 no such user"
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        _new_backend().send_messages([EmailMessage(*MESSAGE)])
    assert refused.value.recipients == {"ada@example.org": (550, b"5.1.1 no such user")}


def test_email_over_tls_from_the_beginning(
    server: SmtpServer, mail_through: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    mail_through("portal.smtp.EmailBackend", host="127.0.0.1", port=server.port, timeout=20, use_ssl=True)
    assert _new_backend().send_messages([EmailMessage(*MESSAGE)]) == 1
    server.say["END"] = server.drip
    monkeypatch.setattr(smtp, "LONGEST", 0.5)
    with pytest.raises(TimeoutError, match="took longer than"):
        _new_backend().send_messages([EmailMessage(*MESSAGE)])
    assert server.subjects == ["Subject"]


def test_settings_name_this_backend_where_a_mail_server_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from portal import environment

    monkeypatch.setenv("EMAIL_URL", "smtp://127.0.0.1:2525")
    assert environment.mailer()["timeout"] < smtp.LONGEST
    assert issubclass(smtp.EmailBackend, mail.backends.smtp.EmailBackend)
