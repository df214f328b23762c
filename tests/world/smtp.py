"""A mail server that refuses what it is told to refuse, and keeps every mail as Python's own parser reads it.

Its arguments: the address, how it is encrypted (none, starttls, tls), certificate, key, and the folder for the mails,
where it writes its port when it listens. It knows one login.
"""

import asyncio
import itertools
import json
import os
import ssl
import sys
from email import message_from_bytes
from email.policy import default

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD = b"certfleet@example.org", b"canary1f8f7d1e-password"
REFUSED = {"gone": "550 5.1.1 no such user", "later": "451 4.7.1 greylisted", "stranger": "553 5.7.1 not yours"}


class Keeper:
    def __init__(self, folder):
        self.folder, self.numbers = folder, itertools.count()

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from, envelope.mail_options = address, options
        return REFUSED.get(address.split("@")[0], "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, options):
        refusal = REFUSED.get(address.split("@")[0])
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if "full@example.org" in envelope.rcpt_tos:
            return "552 5.2.2 mailbox full"
        raw = envelope.original_content
        mail = message_from_bytes(raw, policy=default)
        leaves = [part for part in mail.walk() if not part.is_multipart()]
        kept = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "hello": session.host_name,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "login": bool(session.authenticated),
            "headers": [[name, str(value)] for name, value in mail.items()],
            "type": mail.get_content_type(),
            "parts": [[part.get_content_type(), part.get_content().replace("\r\n", "\n")] for part in leaves],
            "defects": [repr(defect) for part in mail.walk() for defect in part.defects]
            + [repr(defect) for value in mail.values() for defect in value.defects],
            "longest": max(len(line) for line in raw.split(b"\r\n")),
            "ascii": raw.isascii(),
            "bare": raw.replace(b"\r\n", b"").count(b"\n") + raw.replace(b"\r\n", b"").count(b"\r"),
        }
        path = os.path.join(self.folder, "%06d.json" % next(self.numbers))
        with open(path + ".new", "w") as file:
            json.dump(kept, file)
        os.rename(path + ".new", path)
        return "250 2.0.0 queued"


def judge(server, session, envelope, mechanism, login):
    known = isinstance(login, LoginPassword) and (login.login, login.password) == (USER, PASSWORD)
    return AuthResult(success=known, handled=known, message=None if known else "535 5.7.8 who is that?")


async def serve(address, encryption, certificate, key, folder):
    context = None
    if encryption != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    keeper = Keeper(folder)

    def talk():
        return SMTP(
            keeper,
            enable_SMTPUTF8=True,
            authenticator=judge,
            auth_require_tls=False,
            auth_required=encryption == "starttls",
            require_starttls=encryption == "starttls",
            tls_context=context if encryption == "starttls" else None,
        )

    wrapped = context if encryption == "tls" else None
    listening = await asyncio.get_running_loop().create_server(talk, address, 0, ssl=wrapped)
    with open(os.path.join(folder, "port.new"), "w") as file:
        file.write(str(listening.sockets[0].getsockname()[1]))
    os.rename(os.path.join(folder, "port.new"), os.path.join(folder, "port"))
    await listening.serve_forever()


asyncio.run(serve(*sys.argv[1:]))
