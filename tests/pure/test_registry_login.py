"""What a registry is logged in with, by the variables that a secret gives."""

from __future__ import annotations

import base64
import sys
from types import ModuleType
from typing import Any

import pytest

from pytest_imagebuild import BaseImageError, Secret, SecretError, SourceLocation
from pytest_imagebuild.build.registry_login import credentials_of
from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.image.secret import RegistrySecret, RegistryService

HERE = SourceLocation(file="user.py", line=3)
REGISTRY = {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": "t0ken"}
GOOGLE = {"SERVICE_ACCOUNT_JSON": '{"private_key": "t0ken"}'}
AWS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "t0ken", "AWS_REGION": "eu-central-1"}
ROLE = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/pull", "AWS_REGION": "eu-central-1"}
NEEDED_OF_AWS = "AWS_ROLE_ARN, AWS_REGION; or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION"


def login(values: dict[str, str], service: RegistryService = "") -> Credentials:
    secret = RegistrySecret(secret=Secret.from_name("registry"), service=service)
    return credentials_of(secret, values, "r.example/a:1", HERE)


def test_a_user_and_a_password_are_taken_as_they_are() -> None:
    assert login({**REGISTRY, "OTHER": "x"}) == Credentials(username="me", password="t0ken")
    assert "t0ken" not in repr(login(REGISTRY))


@pytest.mark.parametrize("service", ["", "gcp"])
def test_google_takes_the_key_of_a_service_account_as_the_password(service: RegistryService) -> None:
    assert login(GOOGLE, service) == Credentials(username="_json_key", password=GOOGLE["SERVICE_ACCOUNT_JSON"])


def test_a_service_that_is_named_looks_at_its_own_keys_only() -> None:
    assert login({**GOOGLE, **REGISTRY}, "gcp").username == "_json_key"


@pytest.mark.parametrize(
    ("values", "service", "said"),
    [
        (
            {"USER": "t0ken", "REGISTRY_PASSWORD": "t0ken"},
            "",
            (
                "has not the keys that a registry needs. Found: REGISTRY_PASSWORD, USER. Needed for secret=: "
                f"REGISTRY_USERNAME, REGISTRY_PASSWORD; or SERVICE_ACCOUNT_JSON; or {NEEDED_OF_AWS}."
            ),
        ),
        (
            {},
            "gcp",
            (
                "has not the keys that a registry needs. Found: none. Needed for from_gcp_artifact_registry: "
                "SERVICE_ACCOUNT_JSON."
            ),
        ),
        (
            REGISTRY,
            "aws",
            (
                "has not the keys that a registry needs. Found: REGISTRY_PASSWORD, REGISTRY_USERNAME. Needed for "
                f"from_aws_ecr: {NEEDED_OF_AWS}."
            ),
        ),
        (
            {**REGISTRY, **GOOGLE},
            "",
            (
                "has keys for more than one kind of authentication: REGISTRY_PASSWORD, REGISTRY_USERNAME, "
                "SERVICE_ACCOUNT_JSON. Leave only those of one kind: REGISTRY_USERNAME, REGISTRY_PASSWORD; or "
                f"SERVICE_ACCOUNT_JSON; or {NEEDED_OF_AWS}."
            ),
        ),
    ],
)
def test_keys_that_are_not_of_exactly_one_kind_are_told(
    values: dict[str, str], service: RegistryService, said: str
) -> None:
    with pytest.raises(SecretError) as caught:
        login(values, service)
    assert str(caught.value) == f'user.py:3: Secret.from_name("registry") {said}'


class FakeAws(ModuleType):
    """Answers as boto3 does, and notes what clients were made with."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__("boto3")
        self.clients: list[tuple[str, dict[str, str]]] = []
        self.refusal = refusal

    def client(self, service: str, **arguments: str) -> FakeAws:
        self.clients.append((service, arguments))
        return self

    def get_authorization_token(self) -> dict[str, Any]:
        if self.refusal:
            raise self.refusal
        token = base64.b64encode(b"AWS:pass:word").decode()
        return {"authorizationData": [{"authorizationToken": token}]}

    def assume_role(self, **arguments: str) -> dict[str, Any]:
        assert arguments == {"RoleArn": ROLE["AWS_ROLE_ARN"], "RoleSessionName": "pytest-imagebuild"}
        return {"Credentials": {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t"}}


class Refused(Exception):
    pass


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    fake, errors = FakeAws(), ModuleType("botocore.exceptions")
    vars(errors).update(BotoCoreError=Refused, ClientError=Refused)
    monkeypatch.setitem(sys.modules, "boto3", fake)
    monkeypatch.setitem(sys.modules, "botocore", ModuleType("botocore"))
    monkeypatch.setitem(sys.modules, "botocore.exceptions", errors)
    return fake


@pytest.mark.parametrize("service", ["", "aws"])
def test_aws_gives_a_password_for_its_keys(aws: FakeAws, service: RegistryService) -> None:
    assert login(AWS, service) == Credentials(username="AWS", password="pass:word")
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "t0ken"}
    assert aws.clients == [("ecr", {"region_name": "eu-central-1", **keys})]


def test_aws_gives_a_password_for_a_role_that_the_host_takes(aws: FakeAws) -> None:
    assert login(ROLE) == Credentials(username="AWS", password="pass:word")
    keys = {"aws_access_key_id": "ASIA", "aws_secret_access_key": "s", "aws_session_token": "t"}
    region = {"region_name": "eu-central-1"}
    assert aws.clients == [("sts", region), ("ecr", {**region, **keys})]


def test_keys_win_over_a_role_and_a_session_token_goes_with_them(aws: FakeAws) -> None:
    login({**AWS, **ROLE, "AWS_SESSION_TOKEN": "session"})
    assert aws.clients[0][1]["aws_session_token"] == "session"
    assert aws.clients[0][1]["aws_access_key_id"] == "AKIA"


def test_a_refusal_of_aws_is_told(aws: FakeAws) -> None:
    aws.refusal = Refused("the security token is invalid")
    with pytest.raises(BaseImageError) as caught:
        login(AWS)
    assert str(caught.value) == (
        "r.example/a:1 is asked for with the keys of AWS, which gave no password for the registry in eu-central-1: the "
        "security token is invalid. Check the values of the secret."
    )


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BaseImageError) as caught:
        login(AWS)
    assert str(caught.value) == (
        "r.example/a:1 is asked for with the keys of AWS, which needs boto3 to get a password for the registry. "
        "Install it: pip install 'pytest-imagebuild[aws]'."
    )
