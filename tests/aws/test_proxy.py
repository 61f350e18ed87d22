"""AWS is reached through the proxy that HTTPS_PROXY names: a real one that makes tunnels, before a server with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading

import pytest
from test_http import OK, Server, made_certificate

from fnmap.aws.http import Connections, NoAnswer
from fnmap.aws.requests import Refused, Service
from fnmap.aws.tunnel import proxy_for
from fnmap.errors import DeployError
from fnmap.storage.s3 import S3Store

PATIENCE_S = 30
TIMEOUT_S = 5.0
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


class ConnectProxy:
    """Makes tunnels, for whom it knows. `asked`: the first line and the credentials of each request."""

    def __init__(self, *, knows=None):
        self.knows, self.asked, self.hangs_up = knows, [], False

    async def serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if line)
            self.asked.append((first, headers.get("proxy-authorization", headers.get("Proxy-Authorization"))))
            if self.hangs_up:
                writer.close()
            elif self.knows is not None and self.asked[-1][1] != self.knows:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                writer.close()
            else:
                host, _, port = first.split(" ")[1].rpartition(":")
                there = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: mine\r\n\r\n")
                await asyncio.gather(self.pass_on(reader, there[1]), self.pass_on(there[0], writer))

    @staticmethod
    async def pass_on(reader, writer):
        with contextlib.suppress(OSError):
            while some := await reader.read(1 << 16):
                writer.write(some)
        writer.close()


@pytest.fixture
def loop():
    """Where the servers of a test run, while it asks them from its own thread."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy(loop, monkeypatch):
    proxy = ConnectProxy()
    serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(proxy.serve, "127.0.0.1", 0), loop).result()
    proxy.place = f"127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
    return proxy


@pytest.fixture
def server(loop, tmp_path, monkeypatch):
    """A server with TLS, whose certificate is trusted."""
    certificate = made_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = Server([OK], [OK], [OK], tls=tls)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    server.place = server.url.removeprefix("https://")
    return server


def by_wire(url):
    """As calls of Lambda are made."""

    async def ask():
        connections = Connections()
        answers = [await connections.ask("POST", url, {"host": "localhost"}, b"x", TIMEOUT_S) for _ in range(2)]
        connections.close()
        return [answer.body for answer in answers]

    return asyncio.run(ask())


def by_requests(url, monkeypatch):
    """As the function is looked up."""
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "here"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
    service = Service("lambda")
    try:
        return [service.ask("POST", "/a", b"x") for _ in range(2)]
    finally:
        service.close()


@pytest.fixture(params=["wire", "requests"])
def ask(request, monkeypatch):
    monkeypatch.setattr("fnmap.aws.requests.BACKOFF_S", 0.0)
    return by_wire if request.param == "wire" else lambda url: by_requests(url, monkeypatch)


def test_requests_go_through_one_tunnel_that_is_kept(proxy, server, ask):
    assert ask(server.url) == [b"hello", b"hello"]
    assert [line.lower() for line, _ in proxy.asked] in (
        [f"connect {server.place} http/1.1"],
        [f"connect {server.place} http/1.0"],  # as http.client has it
    )
    assert server.connects == 1


@pytest.mark.parametrize("hosts", ["localhost", "example.com,localhost", "*"])
def test_hosts_of_no_proxy_are_reached_without(proxy, server, ask, monkeypatch, hosts):
    monkeypatch.setenv("NO_PROXY", hosts)
    assert ask(server.url) == [b"hello", b"hello"]
    assert not proxy.asked


def test_a_proxy_is_told_who_asks(proxy, server, ask, monkeypatch):
    proxy.knows = "Basic bWU6cGEgc3M="
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:pa%20ss@{proxy.place}")
    assert ask(server.url) == [b"hello", b"hello"]


def test_a_proxy_that_refuses_is_named(proxy, server, ask):
    proxy.knows = "Basic somebody"
    with pytest.raises((NoAnswer, Refused), match="407 Proxy Authentication Required"):
        ask(server.url)
    assert server.connects == 0


def test_a_proxy_that_hangs_up_is_named(proxy, server):
    proxy.hangs_up = True
    with pytest.raises(NoAnswer, match=rf"the proxy {proxy.place} hung up"):
        by_wire(server.url)


def test_the_certificate_is_that_of_the_server_behind_the_tunnel(proxy, server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ssl.SSLCertVerificationError):
        by_wire(server.url)


def test_the_client_of_s3_goes_through_the_proxy_too(proxy, server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    proxy.knows = "Basic nobody"
    with contextlib.suppress(Exception):
        S3Store("bucket", endpoint=server.url, region="here", tries=1).get("a")
    assert proxy.asked[0][0] == f"CONNECT {server.place} HTTP/1.1"


def test_a_server_of_ones_own_without_tls_is_reached_without_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert proxy_for("http://127.0.0.1:9000/x") is None


@pytest.mark.parametrize(
    ("said", "place"),
    [("http://proxy.here:3128", ("proxy.here", 3128)), ("proxy.here:3128", ("proxy.here", 3128)),
     ("http://proxy.here", ("proxy.here", 80)), ("http://[::1]:8080/", ("::1", 8080))],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_may_be_written_in_several_ways(monkeypatch, variable, said, place):
    monkeypatch.setenv(variable, said)
    found = proxy_for("https://lambda.eu-west-1.amazonaws.com")
    assert (found.host, found.port) == place


@pytest.mark.parametrize("said", ["https://proxy.here", "socks5://me:secret@proxy.here:1080", "http://proxy:port"])
def test_a_proxy_of_another_kind_is_refused_with_the_way_out(monkeypatch, said):
    monkeypatch.setenv("HTTPS_PROXY", said)
    with pytest.raises(DeployError, match=r"HTTPS_PROXY names '.*': set it to http://host:port, or NO_PROXY") as caught:
        proxy_for("https://lambda.eu-west-1.amazonaws.com")
    assert "secret" not in str(caught.value)
