"""Keeps credentials out of whatever is stored, printed or raised; the one place that knows what they look like."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

HIDDEN = "***"
WHERE = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give data-options and store-options in the "
    "--config file"
)
# Of botocore and aiobotocore, by name: only the stores that use them load them.
_NONE_FOUND = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")
_WORDS = r"secret|token|password|passwd|credential|signature|access_?key|api_?key"
# user:password@ in a URL or, as some libraries cut it, without its scheme; query parameters that grant access.
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+@|(?<![\w/])[^/@:\s'\"]+:[^/@:\s'\"]+@(?=\w)")
# Secret keys of S3 may hold slashes, so that all before the last @ is taken for them.
_S3_USERINFO = re.compile(r"(?:(?<=s3://)|(?<=s3a://))(?!arn:)(?:[^/@:\s'\"]+:[^@\s'\"]+|[^/@\s'\"]+)@")
_PARAMETER = re.compile(rf"(?i)\b([\w-]*(?:{_WORDS})[\w-]*=)[^&\s'\"]+")
_ENTRY = re.compile(r"(?i)storage_options|secret|password|passwd|credential|(^|_)token$|access_key")
_OPTION = re.compile(rf"(?i){_WORDS}|key")
_OPTIONS = ("key", "secret", "token", "username", "password")
_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def hide_in_text(text: str) -> str:
    """The text with `user:password@` of URLs taken out and the values of secret query parameters blotted out."""
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USERINFO.sub("", _S3_USERINFO.sub("", text)))


def refuse_in_url(url: str) -> None:
    """Refuses an S3 URL that holds credentials: it would end up in histories, lists of processes and logs.

    Raises:
        ValueError: naming the URL without them, and where they belong.
    """
    if url.startswith(("s3://", "s3a://")) and (_S3_USERINFO.search(url) or _PARAMETER.search(url)):
        plain = hide_in_text(url).partition("?")[0]
        raise ValueError(f"the URL of {plain} holds credentials; leave them out and {WHERE}")


def missing_credentials(error: BaseException) -> str | None:
    """A line for an error of a storage package that found no credentials; None for every other error."""
    if type(error).__name__ not in _NONE_FOUND:
        return None
    return f"S3 asks for credentials and none were found ({error}); {WHERE}; a public bucket needs 'anon: true' there"


def hide_in_record(value: Any, known: frozenset[str] = frozenset()) -> Any:
    """A JSON-able value without entries whose names sound secret, and with secrets in its strings blotted out.

    Args:
        known: strings that must not appear anywhere, as `secret_values` gives them.
    """
    if isinstance(value, dict):
        return {name: hide_in_record(entry, known) for name, entry in value.items() if not _ENTRY.search(str(name))}
    if isinstance(value, (list, tuple)):
        return [hide_in_record(entry, known) for entry in value]
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, HIDDEN)
        return hide_in_text(value)
    return value


def hide_in_arguments(arguments: Iterable[str]) -> list[str]:
    """A command line without the values of options that sound secret, and without credentials in URLs."""
    kept: list[str] = []
    for argument in map(hide_in_text, arguments):
        name, has_value, _ = argument.partition("=")
        if kept and kept[-1].startswith("-") and "=" not in kept[-1] and _OPTION.search(kept[-1]):
            kept.append(HIDDEN)
        elif has_value and _OPTION.search(name):
            kept.append(f"{name}={HIDDEN}")
        else:
            kept.append(argument)
    return kept


def secret_values(storage_options: dict[str, Any] | None = None) -> frozenset[str]:
    """Strings that must never be stored: what the options and the AWS_* environment authenticate with."""
    values = [*_secrets_in(storage_options or {}), *(os.environ.get(name) for name in _ENVIRONMENT)]
    return frozenset(str(value) for value in values if value and len(str(value)) >= 4)


def _secrets_in(options: dict[str, Any]) -> Iterator[Any]:
    """Values of options that authenticate, those of nested ones (`client_kwargs`) included."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _secrets_in(value)
        elif name in _OPTIONS or _ENTRY.search(str(name)):
            yield value
