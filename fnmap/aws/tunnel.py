"""Through which proxy AWS is reached, by HTTPS_PROXY and NO_PROXY, as curl and boto3 read them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from fnmap.errors import DeployError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is asked, over plain HTTP, for tunnels (CONNECT)."""

    host: str
    port: int
    headers: dict[str, str]

    def connect(self, host: str, port: int) -> bytes:
        """What it is asked for a tunnel to there."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"host: {where}", *(f"{n}: {v}" for n, v in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def proxy_for(url: str) -> Proxy | None:
    """The proxy for an address that begins with https://, if the environment names one. What begins with http:// is a
    server of one's own, and reached without."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    from urllib.request import getproxies, proxy_bypass  # slow to import, and only for connections that are new

    proxies = getproxies()
    said = proxies.get("https") or proxies.get("all")
    if not said or proxy_bypass(parts.netloc):
        return None
    proxy = urlsplit(said if "://" in said else f"http://{said}")
    try:
        port = proxy.port or 80
    except ValueError:
        port = 0
    if proxy.scheme != "http" or not proxy.hostname or not port:
        where = said.rpartition("@")[2]  # a password is not for messages
        raise DeployError(
            f"HTTPS_PROXY names {where!r}: set it to http://host:port, or NO_PROXY to the hosts without one"
        )
    who = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
    headers = {"proxy-authorization": f"Basic {b64encode(who.encode()).decode()}"} if who else {}
    return Proxy(proxy.hostname, port, headers)
