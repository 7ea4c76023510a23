"""The endpoint, and the route to it: proxy, certificates, open files, advice on errors."""

from __future__ import annotations

import os
import re
import ssl
import sys
import urllib.request
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import certifi

from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.errors import field_error, masked, shown
from binance_archive_kit.paths import has_controls

#: Assumed where there is no limit, or where the system does not report it.
_OPEN_FILES = 1 << 10


def open_file_limit(*, hard: bool = False) -> int:
    """Return the number of files that this process may open; `hard`: after raising its limit."""
    try:
        import resource
    except ImportError:  # not a Unix
        return _OPEN_FILES
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[hard]
    return _OPEN_FILES if limit == resource.RLIM_INFINITY else limit


# The endpoint

#: Why an endpoint with a user or a password is rejected.
USER_INFO = (
    "the URL has a user or a password (not shown); the archive is read anonymously: "
    "leave out the part before the @"
)
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")


def endpoint_of(endpoint_url: str | None, matrix: Matrix) -> str:
    """Choose the endpoint: the given one, the environment's, else Binance's.

    Raises
    ------
    ConfigurationError
        If it is invalid.
    """
    given = (
        ("endpoint_url", endpoint_url),
        ("S3_ENDPOINT_URL", os.environ.get("S3_ENDPOINT_URL")),
        ("matrix_path", matrix.archive.endpoint),
    )
    name, url = next((name, url) for name, url in given if url)
    return check_endpoint(url, name)


def check_endpoint(url: object, field: str = "endpoint_url") -> str:
    """Validate the URL of an S3-compatible endpoint, and strip its trailing slash.

    Parameters
    ----------
    url : str
    field : str
        Where the URL comes from, for the message.

    Raises
    ------
    ConfigurationError
        If `url` is not that of an S3-compatible endpoint. The message never has a password.
    """
    if not isinstance(url, str):
        raise field_error(field, f"{shown(url)} is not a URL, like 'http://127.0.0.1:9000'")
    if "@" in url:
        raise field_error(field, USER_INFO)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.port != 0
        # urlsplit drops line ends; a host is also checked as it will be resolved.
        usable = usable and not has_controls(url) and bool(_HOST.fullmatch(parts.netloc))
        usable = usable and bool((parts.hostname or "").encode("idna"))
    except ValueError:  # an invalid port, IPv6 address or host
        usable = False
    if not usable:
        raise field_error(
            field, f"{shown(url)} is not an http(s) URL, like 'http://127.0.0.1:9000'"
        )
    if parts.hostname == "data.binance.vision":
        raise field_error(
            field,
            f"{url!r} is the archive's web page and cannot list; "
            "leave endpoint_url out for the archive itself",
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise field_error(
            field,
            f"{shown(url)} has a path; give the endpoint alone, "
            f"like '{parts.scheme}://{parts.netloc}'",
        )
    return f"{parts.scheme}://{parts.netloc}"


# The route to it


@dataclass(frozen=True)
class Route:
    """How connections reach an endpoint: through which proxy, and trusting which certificates.

    The listing, the digests and s5cmd all use it, so that they reach the same endpoints.

    Attributes
    ----------
    endpoint : str
    proxy : str or None
        URL of an HTTP proxy, which may contain a password.
    tls : ssl.SSLContext or None
        None for plain HTTP.
    certificates : str or None
        The same trusted certificates as PEM text; None for plain HTTP.
    """

    endpoint: str
    proxy: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    certificates: str | None = field(repr=False)

    @classmethod
    def to(cls, endpoint: str) -> Route:
        """Return the route to an endpoint, according to the current environment.

        Raises
        ------
        ConfigurationError
            If the environment names an invalid proxy or a file without certificates. The
            message has no password.
        """
        tls, certificates = None, None
        if urlsplit(endpoint).scheme == "https":
            # An empty variable counts as unset, as for OpenSSL.
            names = (os.environ.get(name) or None for name in (*_PEM_FILES, "SSL_CERT_DIR"))
            tls, certificates = _trust(*names)
        return cls(endpoint, _proxy_of(endpoint), tls, certificates)

    @property
    def through(self) -> str:
        """The proxy without its password, for messages; empty without one."""
        return f" through the proxy {masked(self.proxy)}" if self.proxy else ""


#: Variables that name a PEM file.
_PEM_FILES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@cache
def _trust(*named: str | None) -> tuple[ssl.SSLContext, str]:
    """Trust the authorities of certifi, the machine and the environment (60 ms)."""
    *files, folder = named
    usual = ssl.get_default_verify_paths()
    paths = (certifi.where(), usual.openssl_cafile, *_members(usual.openssl_capath))
    found = dict.fromkeys(
        certificate for path in (*paths, *_members(folder)) for certificate in _certificates(path)
    )
    if sys.platform == "win32":
        for store in ("ROOT", "CA"):
            for certificate, encoding, _ in ssl.enum_certificates(store):
                if encoding == "x509_asn":
                    found[ssl.DER_cert_to_PEM_cert(certificate).strip()] = None
    context = ssl.create_default_context(cadata="\n".join(found))
    for variable, file in zip(_PEM_FILES, files, strict=True):
        if file is None:
            continue
        more = _certificates(file)
        try:
            context.load_verify_locations(cadata="\n".join(more))
        except (ssl.SSLError, ValueError):
            raise field_error(
                variable,
                f"{shown(file)} is not a file of certificates in PEM form; "
                "correct the environment variable, or unset it",
            ) from None
        found |= dict.fromkeys(more)
    return context, "\n".join(found) + "\n"


def _members(folder: str | None) -> list[str]:
    """List the files of a folder, sorted; none if it cannot be read."""
    try:
        return [] if folder is None else sorted(map(str, Path(folder).iterdir()))
    except OSError:
        return []


def _certificates(path: str) -> list[str]:
    """Return the certificates of a PEM file, without anything else such as a private key."""
    try:
        return _CERTIFICATE.findall(Path(path).read_text(encoding="ascii", errors="ignore"))
    except (OSError, ValueError):
        return []


def _proxy_of(endpoint: str) -> str | None:
    """Return the URL of the environment's proxy for an endpoint; None without one."""
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    name = next((each for each in (parts.scheme, "all") if proxies.get(each)), None)
    if name is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = proxies[name]
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        through = urlsplit(proxy)
        host = (through.hostname or "").encode("idna")
        usable = bool(host) and through.port != 0 and not has_controls(proxy)
    except ValueError:
        usable = False
    if usable and through.scheme == "http":
        return proxy
    problem = f"the proxy {masked(proxy)!r} has no valid host and port"
    if usable:
        problem = (
            f"{masked(proxy)!r} is a proxy of the type {through.scheme}, and only HTTP proxies "
            "are supported"
        )
    raise field_error(
        f"{name}_proxy",
        f"{problem}; set {name}_proxy to an HTTP proxy, like "
        f"'http://proxy.example:3128', or no_proxy={parts.hostname} to go without",
    )


# Advice on network errors

#: Patterns in messages of httpx, libcurl and s5cmd, and advice; the first match counts.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"(?<![:.\d])407\b|Proxy Authentication",
        "the proxy asks for a user and a password; write them into its URL in https_proxy",
    ),
    (
        r"(?<![:.\d])451\b|Unavailable For Legal",
        "unavailable for legal reasons: the endpoint does not serve this country or network; "
        "name an endpoint that may serve it (endpoint_url)",
    ),
    (
        r"(?<![:.\d])40[13]\b|AccessDenied|Forbidden",
        "the endpoint, its bucket's policy or a firewall on the way forbids it; anonymous "
        "reading must be allowed there: check endpoint_url and the network",
    ),
    (
        r"(?<![:.\d])30[1278]\b|PermanentRedirect|Moved",
        "the endpoint redirects elsewhere; name the one that holds the bucket (endpoint_url)",
    ),
    (r"NoSuchBucket", "the endpoint has no bucket of that name; check endpoint_url"),
    (
        r"hostname mismatch|not valid for|certificate is valid for|subject name",
        "the certificate is another host's; check endpoint_url",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSL certificate|x509|unknown authority",
        "the certificate is not trusted; if your network has its own authority, name its PEM "
        "file in SSL_CERT_FILE",
    ),
    (
        r"(?i)WRONG.VERSION.NUMBER|RECORD.LAYER|not look like a TLS|HTTP response to HTTPS"
        r"|(TLS|SSL).(handshake|connect)|UNEXPECTED.EOF",
        "there seems to be no TLS at that port; does the endpoint begin with http://?",
    ),
    (
        r"proxyconnect|the proxy",
        "check the proxy in http_proxy and https_proxy, or bypass it with no_proxy",
    ),
    (
        r"Name or service not known|nodename nor servname|No address associated|name resolution"
        r"|getaddrinfo|no such host|server misbehaving|Could not resolve",
        "the host's name cannot be resolved; check endpoint_url and the network",
    ),
    (
        r"refused|unreachable|No route|attempts failed|Connect call failed|Could not connect",
        "nothing answers there; check the network and endpoint_url",
    ),
)


def advice_on(problem: str) -> str:
    """Return advice on the message of a network error; empty if there is none.

    >>> advice_on("dial tcp: lookup nowhere.example: no such host")
    "the host's name cannot be resolved; check endpoint_url and the network"
    """
    return next((advice for words, advice in _ADVICE if re.search(words, problem)), "")
