"""Where documents are to be delivered, as it is written on a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from spanrelay.collecting.delivery.posting import Webhook
from spanrelay.collecting.delivery.storing import Bucket
from spanrelay.collecting.delivery.targets import Target
from spanrelay.errors import ConfigurationError
from spanrelay.exporters.redirects import shown


def targets_of(urls: Sequence[str], headers: Mapping[str, str] | None = None) -> list[Target]:
    """Return the targets of some addresses; `headers` go to the one server that they name.

    Raises:
        ConfigurationError: one is not an address of a target, is there twice, or the headers are for several servers.
    """
    targets = [_target_of(url, headers) for url in urls]
    names = [each.name for each in targets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(f"--to names {min(twice)!r} twice; name each target once")
    servers = {urlsplit(url).netloc for url in urls if not url.startswith("s3:")}
    if headers and len(servers) != 1:
        told = "there is no http(s):// among the targets" if not servers else f"--to names {len(servers)} servers"
        raise ConfigurationError(f"the headers for --to are for one server, but {told}")
    return targets


def _target_of(url: str, headers: Mapping[str, str] | None) -> Target:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"--to {shown(url)!r} is not an address: {error}") from error
    if parts.scheme in ("http", "https") and host:
        return Webhook(url, headers)
    if parts.scheme == "s3" and host and parts.netloc == host:
        return Bucket(host, parts.path.strip("/"))
    raise ConfigurationError(f"--to {shown(url)!r} must be https://HOST/PATH or s3://BUCKET/PREFIX")
