"""Values of secrets, read on the host: from where, in which order, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_imagebuild import Secret, SecretError, SourceLocation
from pytest_imagebuild.plan.secret_values import read_secrets, secrets_file

HERE = SourceLocation(file="user.py", line=3)


def secrets_toml(folder: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    """Write the secrets file and return the environment that names it."""
    path = folder / "secrets.toml"
    path.write_text(text)
    path.chmod(mode)
    return {"IMAGEBUILD_SECRETS_FILE": str(path)}


def sentence(secret: Secret, environ: dict[str, str]) -> str:
    with pytest.raises(SecretError) as caught:
        read_secrets([secret], environ)
    assert caught.value.where == secret.where is not None
    assert secret.where.file == __file__
    assert "t0ken" not in str(caught.value)
    return str(caught.value).removeprefix(f"{secret.where}: ")


def test_later_secrets_win() -> None:
    first, second = Secret.from_dict({"A": "1", "B": "1"}), Secret.from_local_environ(["B"])
    assert read_secrets([first, second], {"B": "2", "C": "3"}) == {"A": "1", "B": "2"}
    assert read_secrets([second, first], {"B": "2"}) == {"A": "1", "B": "1"}


def test_values_do_not_show_in_a_traceback() -> None:
    assert repr(read_secrets([Secret.from_dict({"A": "t0ken"})], {})) == "SecretValues(A)"


def test_a_variable_that_is_not_set_is_named() -> None:
    assert sentence(Secret.from_local_environ(["A", "B", "C"]), {"B": "t0ken"}) == (
        'Secret.from_local_environ(["A", "B", "C"]) found no A, C in the environment of pytest. '
        "Set what is missing before pytest starts."
    )


def test_an_empty_variable_is_a_value() -> None:
    assert read_secrets([Secret.from_local_environ(["A"])], {"A": ""}) == {"A": ""}


@pytest.mark.parametrize("start", ["", "deep/er", "deep/er/test_it.py"])
def test_the_nearest_dotenv_file_counts(tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "test_it.py").touch()
    (tmp_path / ".env").write_text("# x\nexport A=1\nB='two words'\nC\nD=${A}2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A", raising=False)
    secret = Secret.from_dotenv(start) if start else Secret.from_dotenv()
    assert read_secrets([secret], {}) == {"A": "1", "B": "two words", "D": "12"}
    (tmp_path / "deep" / ".env").write_text("A=nearer")
    assert read_secrets([secret], {})["A"] == ("nearer" if start else "1")


def test_a_dotenv_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert sentence(Secret.from_dotenv(tmp_path, filename=".none"), {}) == (
        f'Secret.from_dotenv("{tmp_path}", filename=".none") found no file .none in {tmp_path} or a folder above it. '
        "Create it, or name the folder that has it."
    )


def test_a_dotenv_file_that_is_no_text_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=t0ken\xff")
    assert sentence(Secret.from_dotenv(tmp_path), {}) == (
        f'Secret.from_dotenv("{tmp_path}") cannot read {tmp_path}/.env: it is not UTF-8 text.'
    )


def test_a_name_is_a_table_of_the_secrets_file(tmp_path: Path) -> None:
    environ = secrets_toml(tmp_path, '[hub]\nA = "1"\nB = "2"\n["ci/hub"]\nA = "3"\n')
    assert read_secrets([Secret.from_name("hub", required_keys=["A"])], environ) == {"A": "1", "B": "2"}
    assert read_secrets([Secret.from_name("hub", environment_name="ci")], environ) == {"A": "3"}


def test_the_secrets_file_lies_in_the_configuration_folder() -> None:
    assert secrets_file({"HOME": "/home/me"}) == Path("/home/me/.config/imagebuild/secrets.toml")
    assert secrets_file({"HOME": "/home/me", "XDG_CONFIG_HOME": "/conf"}) == Path("/conf/imagebuild/secrets.toml")
    assert secrets_file({"IMAGEBUILD_SECRETS_FILE": "/s.toml", "XDG_CONFIG_HOME": "/conf"}) == Path("/s.toml")


def test_required_keys_that_are_set_stand_in_for_a_name_that_the_file_does_not_have(tmp_path: Path) -> None:
    secret = Secret.from_name("hub", required_keys=["A", "B"])
    nowhere = {"IMAGEBUILD_SECRETS_FILE": str(tmp_path / "none.toml")}
    assert read_secrets([secret], {**nowhere, "A": "1", "B": "2"}) == {"A": "1", "B": "2"}
    environ = secrets_toml(tmp_path, '[hub]\nA = "file"\nB = "file"\n')
    assert read_secrets([secret], {**environ, "A": "1", "B": "2"}) == {"A": "file", "B": "file"}


def test_a_name_without_a_secrets_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert sentence(Secret.from_name("my hub", required_keys=["B", "A"]), {"IMAGEBUILD_SECRETS_FILE": str(path)}) == (
        f'Secret.from_name("my hub") found no file {path}. Write it there: a line ["my hub"], then a line '
        'NAME = "value" for each variable; or set A, B in the environment of pytest.'
    )


def test_a_name_that_the_file_does_not_have_is_told_with_those_it_has(tmp_path: Path) -> None:
    environ = secrets_toml(tmp_path, '[b]\nA = "t0ken"\n[a]\n')
    assert sentence(Secret.from_name("hub"), environ) == (
        f'Secret.from_name("hub") found no table [hub] in {tmp_path}/secrets.toml, which has a, b. Write it there: '
        'a line [hub], then a line NAME = "value" for each variable.'
    )


def test_a_required_key_that_is_missing_is_told(tmp_path: Path) -> None:
    environ = secrets_toml(tmp_path, '[hub]\nA = "t0ken"\n')
    assert sentence(Secret.from_name("hub", required_keys=["A", "B"]), environ) == (
        f'Secret.from_name("hub") found no B in [hub] of {tmp_path}/secrets.toml, which required_keys asks for. Add it.'
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o660])
def test_a_secrets_file_that_others_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    environ = secrets_toml(tmp_path, '[hub]\nA = "t0ken"\n', mode)
    path = tmp_path / "secrets.toml"
    assert sentence(Secret.from_name("hub"), environ) == (
        f'Secret.from_name("hub") does not use {path}: others may read or change it (mode {mode:o}). '
        f"Run `chmod 600 {path}`."
    )


@pytest.mark.parametrize("text", ["[hub]\nA = 1\n", "hub = 't0ken'\n", "[hub]\n[hub.t0ken]\n"])
def test_values_of_another_type_are_told(tmp_path: Path, text: str) -> None:
    assert sentence(Secret.from_name("hub"), secrets_toml(tmp_path, text)) == (
        f'Secret.from_name("hub") found [hub] of {tmp_path}/secrets.toml to be no table of strings. '
        "Write each value in quotes."
    )


def test_a_secrets_file_that_is_no_toml_is_told_by_its_place_only(tmp_path: Path) -> None:
    assert sentence(Secret.from_name("hub"), secrets_toml(tmp_path, "[hub]\nA = t0ken\n")) == (
        f'Secret.from_name("hub") cannot read {tmp_path}/secrets.toml: it is not TOML (at line 2, column 5).'
    )


def test_what_cannot_be_a_variable_is_told() -> None:
    assert sentence(Secret.from_dict({"A-B": "t0ken"}), {}) == (
        "Secret.from_dict({\"A-B\": \"***\"}) cannot set the variable 'A-B': letters, digits and '_' only. Rename it."
    )
    assert sentence(Secret.from_dict({"A": "t0ken\0"}), {}) == (
        'Secret.from_dict({"A": "***"}) has a NUL byte in the value of \'A\', which no variable can hold.'
    )
