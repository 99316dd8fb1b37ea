"""What a registry is logged in with: from the variables of a `Secret`, by which of them there are."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.errors import BaseImageError, SecretError, SourceLocation
from pytest_imagebuild.image.secret import RegistrySecret, RegistryService

__all__ = ["credentials_of"]

_REGISTRY = ("REGISTRY_USERNAME", "REGISTRY_PASSWORD")
_GOOGLE = ("SERVICE_ACCOUNT_JSON",)
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
_AWS_ROLE = ("AWS_ROLE_ARN", "AWS_REGION")

_KINDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "": (_REGISTRY,),
    "gcp": (_GOOGLE,),
    "aws": (_AWS_ROLE, _AWS_KEYS),
}
_METHODS: Mapping[RegistryService, str] = {"aws": "from_aws_ecr", "gcp": "from_gcp_artifact_registry"}


def credentials_of(
    login: RegistrySecret, values: Mapping[str, str], reference: str, where: SourceLocation | None
) -> Credentials:
    """Return the user and the password for the registry of `reference`; `values` are those of the secret.

    Raises SecretError, at the line of the chain call, for variables that are not exactly those of one kind of
    registry; BaseImageError where AWS gives no token.
    """
    keys = _keys(login, values, where)
    if keys == _REGISTRY:
        return Credentials(username=values["REGISTRY_USERNAME"], password=values["REGISTRY_PASSWORD"])
    if keys == _GOOGLE:
        # Artifact Registry documentation, "Set up authentication for Docker": the key itself as the password.
        return Credentials(username="_json_key", password=values["SERVICE_ACCOUNT_JSON"])
    return _of_aws(keys, values, reference)


def _keys(login: RegistrySecret, values: Mapping[str, str], where: SourceLocation | None) -> tuple[str, ...]:
    kinds = [login.service] if login.service else list(_KINDS)
    found = {kind: keys for kind in kinds for keys in _KINDS[kind] if all(name in values for name in keys)}
    if len(found) == 1:
        return next(iter(found.values()))
    method = _METHODS.get(login.service, "secret=")
    names = ", ".join(sorted(values)) or "none"
    wanted = "; or ".join(", ".join(keys) for kind in kinds for keys in _KINDS[kind])
    if found:
        message = f"has keys for more than one kind of authentication: {names}. Leave only those of one kind: {wanted}"
    else:
        message = f"has not the keys that a registry needs. Found: {names}. Needed for {method}: {wanted}"
    raise SecretError(f"{login.secret!r} {message}.", where=where)


def _of_aws(keys: tuple[str, ...], values: Mapping[str, str], reference: str) -> Credentials:
    """Ask AWS for the password of its registry, which is good for 12 hours (ECR API, GetAuthorizationToken)."""
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError:
        raise BaseImageError(
            f"{reference} is asked for with the keys of AWS, which needs boto3 to get a password for the registry. "
            "Install it: pip install 'pytest-imagebuild[aws]'."
        ) from None
    region = values["AWS_REGION"]
    try:
        with _unlogged():
            known = _aws_keys(values) if keys == _AWS_KEYS else _aws_role(boto3, values["AWS_ROLE_ARN"], region)
            answer = boto3.client("ecr", region_name=region, **known).get_authorization_token()
    except (BotoCoreError, ClientError) as error:
        raise BaseImageError(
            f"{reference} is asked for with the keys of AWS, which gave no password for the registry in {region}: "
            f"{error}. Check the values of the secret."
        ) from None
    token = answer["authorizationData"][0]["authorizationToken"]
    username, _, password = base64.b64decode(token).decode().partition(":")
    return Credentials(username=username, password=password)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep botocore from logging what AWS answers, which it does in full where pytest shows debug messages."""
    logger = logging.getLogger("botocore")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _aws_keys(values: Mapping[str, str]) -> dict[str, str]:
    known = {"aws_access_key_id": values["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": values["AWS_SECRET_ACCESS_KEY"]}
    token = values.get("AWS_SESSION_TOKEN")
    return {**known, "aws_session_token": token} if token else known


def _aws_role(boto3: Any, role: str, region: str) -> dict[str, str]:
    """Take the role with whatever identity the host has for AWS."""
    taken = boto3.client("sts", region_name=region).assume_role(RoleArn=role, RoleSessionName="pytest-imagebuild")
    given = taken["Credentials"]
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
