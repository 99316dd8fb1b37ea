"""What every engine promises of secrets: commands and registries get them, and nothing that lasts does."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest

from pytest_imagebuild.engines.credentials import Credentials
from pytest_imagebuild.engines.work import Work
from pytest_imagebuild.errors import BaseImageError

from .conftest import Bench, new_key, plain_labels
from .registries import Answer, Call, FakeRegistry, layer, serving

VALUE = "xyzzy-4f1d9c '\"$`\\ \nline two"
WORD = "xyzzy-4f1d9c"


def test_a_command_gets_the_secrets_which_win_over_the_environment(bench: Bench) -> None:
    script = 'printf "%s|" "$A" "$B"'
    assert bench.run(script, environment={"A": "1", "B": "1"}, secrets={"B": VALUE}) == f"1|{VALUE}|"


def test_what_is_built_with_a_secret_has_none(box: Bench) -> None:
    work = Work(commands=(f'[ "${{#TOKEN}}" = {len(VALUE)} ]', "echo built > /built"), secrets={"TOKEN": VALUE})
    built = box.engine.build(box.base, work, box.labels(), print)
    search = (
        f'env; cat /built; grep -rlF {WORD[:3]}""{WORD[3:]} / --exclude-dir=proc --exclude-dir=sys 2>/dev/null || :'
    )
    found = box.run(search, on=built)
    assert "built\n" in found
    assert "TOKEN" not in found
    assert [line for line in found.splitlines() if line.startswith("/")] == []


# registries ---------------------------------------------------------------------------------------------------------

GIVEN = Credentials(username="ann", password="very s3cret")


@pytest.fixture
def private() -> Iterator[FakeRegistry]:
    """A registry that wants a login."""
    wanted = "Basic " + base64.b64encode(f"{GIVEN.username}:{GIVEN.password}".encode()).decode()

    def asks(call: Call, answer: Answer) -> bool:
        if call.authorization != wanted:
            answer.send(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}', WWW_Authenticate='Basic realm="here"')
        elif call.path == "/v2/":
            answer.send(200, b"{}")
        else:
            return False
        return True

    with serving() as registry:
        registry.image("latest", layer(hello=os.urandom(1000)))
        registry.faults.append(asks)
        yield registry


def test_a_base_of_a_private_registry_is_brought_with_credentials(box: Bench, private: FakeRegistry) -> None:
    pin = box.engine.pin_base(private.reference(), print, GIVEN)
    built = box.engine.import_base(private.reference(), pin, plain_labels(key := new_key()), print, GIVEN)
    assert pin.source == "registry"
    assert box.engine.find(key) == built


def test_a_base_of_a_private_registry_is_refused_without_credentials(box: Bench, private: FakeRegistry) -> None:
    with pytest.raises(BaseImageError, match="log in with `docker login") as caught:
        box.engine.pin_base(private.reference(), print)
    assert private.address in str(caught.value)


def test_refused_credentials_are_told_without_the_password(box: Bench, private: FakeRegistry) -> None:
    wrong = Credentials(username="ann", password="wr0ng")
    with pytest.raises(BaseImageError, match="check the values of the secret that the chain call gives") as caught:
        box.engine.pin_base(private.reference(), print, wrong)
    assert "wr0ng" not in str(caught.value)
