"""Access to a bucket: endpoint, credentials and certificates from the environment; its errors.

The destination has its own settings, apart from the anonymous archive: the standard ones of AWS,
in variables and in the profile that ``AWS_PROFILE`` names.
Credentials are read by the clients themselves, and never appear in an object of this package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from configparser import Error, RawConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow.fs import S3FileSystem

from binance_archive_kit.archive.certificate_file import certificate_file
from binance_archive_kit.archive.endpoint import USER_INFO, Route, advice_on, check_endpoint
from binance_archive_kit.errors import StoreError, field_error, shown
from binance_archive_kit.suggestions import nearest

#: Variables with the endpoint of the destination; the first that is set counts.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
#: Where neither the environment nor an endpoint of AWS implies a region.
_REGION = "us-east-1"
#: Seconds for a connection to be made.
_CONNECT = 10.0
#: Seconds without a byte after which a request is tried again.
_REQUEST = 20.0
_RETRIES = 2
#: Profiles that a message names.
_NAMED = 20
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"

#: Patterns in messages of s5cmd and Arrow, and advice; the first match counts.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"NoSuchBucket|NO_SUCH_BUCKET",
        "there is no such bucket; create it, or correct the URL or {endpoint}",
    ),
    (
        r"NoCredentialProviders|EC2MetadataError|no valid providers|CREDENTIALS",
        f"no credentials were found; set {_KEYS}",
    ),
    (
        r"InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT"
        r"|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|InvalidToken",
        f"the credentials are wrong; check {_KEYS}",
    ),
    (
        r"ExpiredToken|EXPIRED_TOKEN|TokenRefreshRequired",
        "the credentials have expired; get new ones, and try again",
    ),
    (
        r"RequestTimeTooSkewed|REQUEST_TIME_TOO_SKEWED|RequestExpired|REQUEST_EXPIRED",
        "the clock of this machine is wrong; set it, and try again",
    ),
    (
        r"BucketRegionError|AuthorizationHeaderMalformed|PermanentRedirect"
        r"|(?i:incorrect region|wrong region)|\b30[17]\b",
        "the bucket is in another region; name it in AWS_REGION",
    ),
    (
        r"(?i:Access ?Denied)|ACCESS_DENIED|Forbidden|AllAccessDisabled|\b40[13]\b",
        f"access is denied; check the credentials ({_KEYS}): they must allow to list the bucket, "
        "and to read, write and delete its objects",
    ),
    (
        r"SlowDown|SLOW_DOWN|TooManyRequests|REQUEST_LIMIT|THROTTLING|\b(429|503)\b",
        "the endpoint asks to slow down; try again later, or with fewer workers",
    ),
    (
        r"INTERNAL_FAILURE|InternalError|(?i:status(?: code)?:? 5\d\d)",
        "the endpoint failed; try again later",
    ),
)
#: Patterns of messages that say nothing of the endpoint.
_REFUSED = r"curlCode: 7\b|connection refused|dial tcp"
_LOST = r"curlCode: \d|NETWORK_CONNECTION|RequestError|\bEOF\b|reset|broken pipe|no answer"


@dataclass(frozen=True)
class Access:
    """How requests reach the buckets of the environment.

    Attributes
    ----------
    endpoint : str or None
        None for AWS itself.
    region : str or None
        None if the clients have to find it.
    route : Route
        Proxy and certificates.
    """

    endpoint: str | None
    region: str | None
    route: Route = field(repr=False)

    @classmethod
    def of_environment(cls) -> Access:
        """Read the settings of the environment.

        Raises
        ------
        ConfigurationError
            If the endpoint or the proxy is invalid, or if there is no such profile. The message
            has no password.
        """
        profile = _read_profile(os.environ.get("AWS_PROFILE", ""))
        given = {name: os.environ.get(name, "") for name in (*ENDPOINTS, *_REGIONS)}
        region = next(filter(None, (given[name] for name in _REGIONS)), profile.get("region"))
        name = next((name for name in ENDPOINTS if given[name]), "endpoint_url")
        url = given.get(name) or profile.get(name)
        if not url:
            route = Route.to(f"https://s3.{region or _REGION}.amazonaws.com")
            return cls(None, region, route)
        if "@" in url:
            raise field_error(
                name, USER_INFO.replace("the archive is read anonymously", f"set {_KEYS}")
            )
        endpoint = check_endpoint(url, name if given.get(name) else f"{name} of the AWS profile")
        return cls(endpoint, region or _REGION, Route.to(endpoint))

    @property
    def certificates(self) -> str | None:
        """The path of a file of the trusted certificates; None for plain HTTP."""
        text = self.route.certificates
        return None if text is None else certificate_file(text)

    def filesystem(self) -> S3FileSystem:
        """Return Arrow's file system; the same one as long as the environment stays."""
        settings = tuple(
            sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
        )
        return _filesystem(_Hidden(settings), self)

    def arguments(self) -> list[str]:
        """Return the flags of s5cmd."""
        endpoint = ["--endpoint-url", self.endpoint] if self.endpoint else []
        return [*endpoint, "--retry-count", str(_RETRIES)]

    def environment(self) -> dict[str, str]:
        """Return the environment of s5cmd: the user's, without the settings of the archive."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name != "S3_ENDPOINT_URL" and not name.lower().endswith("_proxy")
        }
        if self.region:
            environment["AWS_REGION"] = self.region
        if certificates := self.certificates:
            environment["AWS_CA_BUNDLE"] = certificates
        if self.route.proxy is not None:
            environment["HTTP_PROXY"] = environment["HTTPS_PROXY"] = self.route.proxy
        return environment | {"GOGC": "400"}

    def error(self, subject: str, problem: object) -> StoreError:
        """Return the error of a failed request, with advice.

        Parameters
        ----------
        subject : str
            The URL of the object or the bucket.
        problem : object
            The message of s5cmd or Arrow.
        """
        text = _without_ids(str(problem))
        if advice := self._advice(text):
            return StoreError(f"{subject}: {advice} ({text})")
        return StoreError(f"{subject}: {text}")

    def _advice(self, text: str) -> str:
        variable = ENDPOINTS[0]
        for words, advice in _ADVICE:
            if re.search(words, text):
                return advice.format(endpoint=variable)
        found = advice_on(text)
        if not found and re.search(_REFUSED, text):
            found = "nothing answers there; check the network and endpoint_url"
        elif not found and re.search(_LOST, text):
            found = "the connection was lost; check the network, and try again"
        if found:
            at = self.endpoint or "the endpoint of AWS"
            found = f"{at}{self.route.through}: {found}"
        return found.replace("endpoint_url", variable)


def _read_profile(name: str) -> dict[str, str]:
    """Return the settings of a profile, or of the default one, which need not exist.

    The clients read the credentials in it; s5cmd does not know its endpoint.
    """
    settings, known = _read_sections("AWS_CONFIG_FILE", "~/.aws/config")
    profiles = {each.removeprefix("profile ") for each in settings if not _is_special(each)}
    if name and name not in profiles:
        credentials, also_known = _read_sections(
            "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"
        )
        # Keys in variables come before a profile.
        if known and also_known and not os.environ.get("AWS_ACCESS_KEY_ID"):
            _check_profile(name, sorted({*profiles, *credentials}))
    for section in (f"profile {name or 'default'}", name or "default"):
        if found := settings.get(section):
            if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
                found.pop("endpoint_url", None)
            return found
    return {}


def _is_special(section: str) -> bool:
    """Return whether a section of a configuration file is no profile, such as ``sso-session x``."""
    return " " in section and not section.startswith("profile ")


def _check_profile(name: str, profiles: Sequence[str]) -> None:
    if name not in profiles:
        guess = nearest(name, profiles)
        hint = f"; did you mean {guess!r}?" if guess else "."
        there = ", ".join(profiles[:_NAMED]) or "none"
        raise field_error(
            "AWS_PROFILE",
            f"the profile {shown(name)} is in no configuration or credentials file of AWS{hint} "
            f"Profiles there: {there}{', …' if profiles[_NAMED:] else ''}",
        )


def _read_sections(variable: str, usual: str) -> tuple[dict[str, dict[str, str]], bool]:
    """Return the sections of a file that a variable names, and whether it could be read.

    Of one that cannot be read, the clients say what is wrong. One that is absent has none.
    """
    parser, is_sound = RawConfigParser(strict=False), False
    with suppress(OSError, ValueError, Error, RuntimeError):
        parser.read(Path(os.environ.get(variable) or usual).expanduser(), encoding="utf-8")
        is_sound = True
    return {section: dict(parser.items(section)) for section in parser.sections()}, is_sound


class _Hidden:
    """A key of a cache that shows nothing of its secrets."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


@cache
def _filesystem(_settings: _Hidden, access: Access) -> S3FileSystem:
    parts = urlsplit(access.endpoint or "")
    return S3FileSystem(
        region=access.region,
        scheme=parts.scheme or None,
        endpoint_override=parts.netloc or None,
        proxy_options=access.route.proxy,
        tls_ca_file_path=access.certificates,
        connect_timeout=_CONNECT,
        request_timeout=_REQUEST,
        # A small object is written by one request, and a file is not asked for its size twice.
        allow_delayed_open=True,
        background_writes=False,
    )


def _without_ids(text: str) -> str:
    """Remove the ids of requests, which differ each time, from a message."""
    text = re.sub(r"[,;]? ?\(?(request|host) id: ?[\w/+=-]*\)?", "", text, flags=re.IGNORECASE)
    return " ".join(text.split()).strip(" ,:;")


@contextmanager
def access_errors(access: Access, subject: str) -> Iterator[None]:
    """Convert errors of Arrow; those of an absent object stay.

    Raises
    ------
    FileNotFoundError
        If there is no such object.
    StoreError
        With advice.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "there is no such object", subject) from None
    except OSError as error:
        raise access.error(subject, error) from None
