"""What a secret says of itself, and what of it enters keys."""

from __future__ import annotations

import pickle
import pprint
from pathlib import Path

import pytest
from doubles import BASE, plan

from pytest_imagebuild import Image, Secret
from pytest_imagebuild.image.canonical import encode

TOKEN = Secret.from_dict({"B": "t0ken-b", "A": "t0ken-a", "C": None})


def test_a_dropped_name_is_no_variable() -> None:
    assert TOKEN.names == ("A", "B")
    assert TOKEN.held == (("A", "t0ken-a"), ("B", "t0ken-b"))


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (TOKEN, 'Secret.from_dict({"A": "***", "B": "***"})'),
        (Secret.from_dict(), "Secret.from_dict({})"),
        (Secret.from_local_environ(["B", "A"]), 'Secret.from_local_environ(["A", "B"])'),
        (Secret.from_dotenv(), "Secret.from_dotenv()"),
        (Secret.from_dotenv("conf", filename=".env.test"), 'Secret.from_dotenv("conf", filename=".env.test")'),
        (Secret.from_name("hub"), 'Secret.from_name("hub")'),
        (Secret.from_name("hub", environment_name="ci"), 'Secret.from_name("hub", environment_name="ci")'),
    ],
)
def test_a_secret_shows_the_call_that_made_it_and_no_value(secret: Secret, shown: str) -> None:
    assert repr(secret) == str(secret) == shown
    assert "t0ken" not in pprint.pformat([secret, {"x": secret}])


def test_a_secret_is_described_where_neither_its_file_nor_its_variable_exists() -> None:
    Secret.from_dotenv("/no/such/folder")
    Secret.from_local_environ(["NO_SUCH_VARIABLE"])
    Secret.from_name("no such name", required_keys=["A"])


def test_secrets_are_equal_whatever_their_values_are() -> None:
    assert Secret.from_dict({"A": "1"}) == Secret.from_dict({"A": "2"})
    assert Secret.from_dict({"A": "1"}) != Secret.from_dict({"B": "1"})
    assert Secret.from_local_environ(["A"]) != Secret.from_dict({"A": "1"})
    assert Secret.from_dotenv("a") != Secret.from_dotenv("b")
    assert Secret.from_dotenv("/a") != Secret.from_dotenv("/b")


def test_a_secret_survives_pickling_with_its_values() -> None:
    assert pickle.loads(pickle.dumps(TOKEN)).held == TOKEN.held


def test_no_value_enters_the_canonical_form() -> None:
    assert b"t0ken" not in encode(TOKEN)
    assert encode(TOKEN) == encode(Secret.from_dict({"A": "x", "B": "y"}))


def test_the_place_of_a_project_does_not_enter_the_canonical_form(tmp_path: Path) -> None:
    assert encode(Secret.from_dotenv(tmp_path / "a.py")) == encode(Secret.from_dotenv("~/b.py"))
    assert encode(Secret.from_dotenv("a")) != encode(Secret.from_dotenv("b"))


def key(image: Image) -> str:
    return plan(image).layers[-1].definition


def test_names_enter_the_identity_of_a_step_and_values_do_not() -> None:
    def run(*secrets: Secret) -> str:
        return key(BASE.run_commands("make", secrets=secrets))

    assert run(Secret.from_dict({"A": "1111"})) == run(Secret.from_dict({"A": "2222"}))
    others = [run(), run(TOKEN), run(Secret.from_local_environ(["A"])), run(Secret.from_name("A"))]
    assert len({run(Secret.from_dict({"A": "1111"})), *others}) == 5


def test_steps_without_secrets_keep_their_identity() -> None:
    assert key(BASE.run_commands("make", secrets=[])) == key(BASE.run_commands("make", secrets=None))
    assert key(BASE.run_commands("make", secrets=())) == key(BASE.run_commands("make"))


def test_the_order_of_a_set_of_secrets_means_nothing() -> None:
    some = [Secret.from_name(name) for name in "abcdefgh"]
    backwards = frozenset(reversed(some))
    assert key(BASE.run_commands("x", secrets=set(some))) == key(BASE.run_commands("x", secrets=backwards))


def test_the_layer_of_a_base_does_not_depend_on_who_may_have_it() -> None:
    login = Secret.from_dict({"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": "t0ken"})
    images = [
        Image.from_registry("r.example/a:1"),
        Image.from_registry("r.example/a:1", login),
        Image.from_registry("r.example/a:1", secret=Secret.from_name("registry")),
        Image.from_aws_ecr("r.example/a:1", Secret.from_name("aws")),
        Image.from_gcp_artifact_registry("r.example/a:1", Secret.from_name("gcp")),
    ]
    assert len({key(image) for image in images}) == 1
    assert images[0].definition == images[1].definition == images[2].definition
    assert [plan(image).layers[0].title for image in images[2:]] == [
        'from_registry("r.example/a:1")',
        'from_aws_ecr("r.example/a:1")',
        'from_gcp_artifact_registry("r.example/a:1")',
    ]


def test_a_forced_base_forces_what_follows_also_for_the_services() -> None:
    assert plan(Image.from_gcp_artifact_registry("a", force_build=True).run_commands("x")).layers[-1].force
