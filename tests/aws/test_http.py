"""The HTTP client of the Lambda compute, against servers that say exactly what a test wants them to."""

import asyncio
import contextlib
import datetime
import ssl

import pytest

from fnmap.aws.http import Connections, NoAnswer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Some: Thing\r\n\r\nhello"
TIMEOUT_S = 5.0


class Server:
    """Says the next of its answers to each request, in these pieces, and hangs up where one is None."""

    def __init__(self, *answers, tls=None):
        self.answers, self.tls, self.connects, self.heard, self.left = list(answers), tls, 0, [], asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls)
        port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}" if self.tls is None else f"https://localhost:{port}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        self.connects += 1
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.heard.append((head, await reader.readexactly(size)))
                for piece in self.answers.pop(0):
                    if piece is None:
                        writer.close()
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # the client reads what there is
        writer.close()
        self.left.set()


def asked(*answers, times=1, timeout_s=TIMEOUT_S):
    """The server, and what the client has got from it."""

    async def ask():
        connections = Connections()
        async with Server(*answers) as server:
            url = f"{server.url}/a?b=c"
            got = [await connections.ask("POST", url, {"host": "h"}, b"body", timeout_s) for _ in range(times)]
            connections.close()
        return server, got

    return asyncio.run(ask())


def test_a_request_is_sent_as_it_is_and_the_answer_comes_whole():
    server, [answer] = asked([OK])
    assert server.heard == [(b"POST /a?b=c HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n", b"body")]
    assert answer == (200, {"content-length": "5", "x-some": "Thing"}, b"hello")


def test_a_connection_is_used_again():
    server, answers = asked([OK], [OK], [OK], times=3)
    assert server.connects == 1
    assert [answer.body for answer in answers] == [b"hello"] * 3


@pytest.mark.parametrize("at", range(1, len(OK)))
def test_an_answer_may_come_in_pieces(at):
    _, answers = asked([OK[:at], OK[at:]], [OK], times=2)
    assert [answer.body for answer in answers] == [b"hello"] * 2


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"0;last\r\nSome: trailer\r\nMore: of it\r\n\r\n"])
@pytest.mark.parametrize("step", [1, 1000])
def test_a_chunked_answer_is_put_together(end, step):
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nC;x=y\r\n to\r\nyou all\r\n" + end
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    server, answers = asked(pieces, [OK], times=2)
    assert [answer.body for answer in answers] == [b"hello to\r\nyou all", b"hello"]
    assert server.connects == 1


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status):
    _, answers = asked([b"HTTP/1.1 %d None\r\n\r\n" % status], [OK], times=2)
    assert [(answer.status, answer.body) for answer in answers] == [(status, b""), (200, b"hello")]


def test_what_comes_before_the_answer_is_left_out():
    _, [answer] = asked([b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
    assert answer.body == b"hello"


@pytest.mark.parametrize(
    "last",
    [
        [b"HTTP/1.1 200 OK\r\n\r\nhello", None],  # ends with the connection
        [OK.replace(b"X-Some", b"Connection: close\r\nX-Some")],
        [OK.replace(b"HTTP/1.1", b"HTTP/1.0")],
        [OK + b"and more than that"],
    ],
)
def test_a_connection_that_does_not_last_is_not_used_again(last):
    server, answers = asked(last, [OK], times=2)
    assert [answer.body for answer in answers] == [b"hello"] * 2
    assert server.connects == 2


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used_again():
    async def ask():
        connections = Connections()
        async with Server([OK, None], [OK]) as server:
            for _ in range(2):
                answer = await connections.ask("POST", server.url, {"host": "h"}, b"", TIMEOUT_S)
                while connections.number and server.connects == 1:
                    await asyncio.sleep(0)
        return server.connects, answer.body

    assert asyncio.run(ask()) == (2, b"hello")


@pytest.mark.parametrize(
    "said",
    [
        [None],
        [OK[:20], None],
        [OK[:-1], None],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", None],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
        [b"HTTP/1.1 what OK\r\nContent-Length: 1\r\n\r\n"],
        [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000],
    ],
)
def test_what_is_no_answer_is_an_error(said):
    with pytest.raises(NoAnswer):
        asked(said)


def test_an_answer_that_does_not_come_is_a_timeout():
    with pytest.raises(TimeoutError):
        asked([OK[:-1]], timeout_s=0.01)


def test_nobody_there_is_an_error():
    async def ask():
        async with Server() as server:
            pass
        await Connections().ask("POST", server.url, {"host": "h"}, b"", TIMEOUT_S)

    with pytest.raises(OSError, match=r"refused|Connect"):
        asyncio.run(ask())


def test_who_is_cancelled_hangs_up():
    async def ask():
        async with Server([OK[:-1]]) as server:
            connections = Connections()
            waiting = asyncio.create_task(connections.ask("POST", server.url, {"host": "h"}, b"", TIMEOUT_S))
            while not server.heard:
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait_for(server.left.wait(), TIMEOUT_S)
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(ask())


def test_a_header_of_two_lines_is_refused():
    async def ask():
        await Connections().ask("POST", "http://127.0.0.1:1", {"host": "h\r\nx-more: y"}, b"", TIMEOUT_S)

    with pytest.raises(ValueError, match="line break"):
        asyncio.run(ask())


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_has_to_be_of_someone_trusted(trusted, tmp_path, monkeypatch):
    certificate = made_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def ask():
        async with Server([OK], tls=tls) as server:
            return await Connections().ask("POST", server.url, {"host": "localhost"}, b"", TIMEOUT_S)

    if trusted:
        assert asyncio.run(ask()).body == b"hello"
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(ask())


def made_certificate(folder):
    """A key and a certificate of localhost that nobody else has signed."""
    x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography, of moto")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    day = datetime.timedelta(days=1)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    signed = (
        built.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem))
    return path
