"""Conda environments: what a channel offers is pinned, installed by its hash, and active wherever the image runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conda import CondaChannels, provide_micromamba
from engines import EngineUnderTest, on_one_engine

TIMEOUT = 300
PYTHON = "3.13.5"

PROJECT = """
import sys

import pytest
from pytest_imagebuild import Image

image = Image.micromamba("3.13").env({{"NONCE": "{nonce}"}}).{call}

def test_image(image_build):
    print("layer", image_build(image).reference)

@pytest.mark.image(image)
def test_inside():
    import demo

    print("inside", sys.prefix, demo.__file__)
    print("demo", demo.version, demo.content)
"""


@pytest.fixture(scope="module", autouse=True)
def _image_of_micromamba() -> None:
    provide_micromamba()


@pytest.fixture
def channels(engine: EngineUnderTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CondaChannels]:
    """Serve channels that the host's settings name."""
    with CondaChannels(engine.host_address) as channels:
        monkeypatch.setenv("MAMBA_CHANNEL_ALIAS", channels.url)
        channels.publish_python("conda-forge", PYTHON)
        yield channels


class Environment:
    """A project with one image, and what its runs install and write."""

    def __init__(self, project: pytest.Pytester, nonce: str, engine: EngineUnderTest) -> None:
        self.project = project
        self.engine = engine
        self._nonce = nonce

    @property
    def lockfile(self) -> str:
        return (self.project.path / "imagebuild.lock").read_text()

    def define(self, call: str) -> None:
        self.project.makepyfile(PROJECT.format(nonce=self._nonce, call=call))

    def run(self, *flags: str) -> pytest.RunResult:
        return self.project.runpytest_subprocess("-rP", *flags, timeout=TIMEOUT)

    def demo(self, *flags: str) -> str:
        """Run the tests, and return what the module of the package says of itself in the image."""
        result = self.run(*flags)
        result.assert_outcomes(passed=2)
        found = re.search(r"^demo (.*)$", result.stdout.str(), re.MULTILINE)
        assert found
        return found[1].strip()

    def layer(self, *flags: str) -> str:
        """Build, and return what the engine knows the layer by."""
        result = self.run("-k", "test_image", *flags)
        result.assert_outcomes(passed=1, deselected=1)
        layer = re.search(r"^layer (\S+)$", result.stdout.str(), re.MULTILINE)
        assert layer
        return layer[1]

    def printed(self, script: str) -> str:
        """Return what a shell script prints in the image."""
        return self.engine.output_of(self.layer(), ["sh", "-c", script])

    def forget(self) -> None:
        """Remove the layers, so that the next run builds from nothing."""
        self.engine.remove_layers(self._nonce)


@pytest.fixture
def environment(project: pytest.Pytester, nonce: str, engine: EngineUnderTest) -> Iterator[Environment]:
    environment = Environment(project, nonce, engine)
    yield environment
    environment.forget()


def test_tests_run_on_the_python_of_the_environment(environment: Environment, channels: CondaChannels) -> None:
    channels.publish("conda-forge", "demo", "1.0")
    environment.define('micromamba_install("demo", channels=["conda-forge"])')
    result = environment.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["inside /opt/conda /opt/conda/lib/python3.13/site-packages/demo.py"])


def test_what_was_locked_is_installed_until_an_upgrade(environment: Environment, channels: CondaChannels) -> None:
    channels.publish("conda-forge", "below", "1.0")
    channels.publish("conda-forge", "demo", "1.0", depends=["below"])
    environment.define('micromamba_install("demo", channels=["conda-forge"])')
    assert environment.demo() == "1.0"

    channels.publish("conda-forge", "below", "2.0")
    channels.publish("conda-forge", "demo", "2.0", depends=["below"])
    locked = environment.lockfile
    environment.forget()
    assert environment.demo("--image-locked") == "1.0"
    assert environment.lockfile == locked
    assert environment.demo("--image-lock-upgrade") == "2.0"
    assert 'name = "below"\nversion = "2.0"' in environment.lockfile


@on_one_engine()
def test_the_lockfile_names_addresses_that_hold_without_the_settings_of_this_machine(
    environment: Environment, channels: CondaChannels
) -> None:
    channels.publish("conda-forge", "demo", "1.0")
    environment.define('micromamba_install("demo", channels=["conda-forge"])')
    environment.layer()
    assert channels.url not in environment.lockfile
    assert 'url = "https://conda.anaconda.org/conda-forge/noarch/demo-1.0-0.tar.bz2"' in environment.lockfile
    assert len(re.findall(r'"sha256:[0-9a-f]{64}"', environment.lockfile)) == 4


@on_one_engine()
def test_a_spec_file_says_packages_and_channels(environment: Environment, channels: CondaChannels) -> None:
    channels.publish("first", "demo", "1.0", content="of the first")
    channels.publish("first", "demo", "2.0", content="of the first")
    environment.project.path.joinpath("environment.yml").write_text(
        "name: shop\nchannels:\n  - first\ndependencies:\n  - demo=1\n"
    )
    environment.define('micromamba_install(spec_file="environment.yml")')
    assert environment.demo() == "1.0 of the first"
    assert environment.printed("ls /environment.yml 2>&1 || :").endswith("No such file or directory\n")


@pytest.mark.parametrize(
    ("order", "taken"), [("first second", "1.0 of the first"), ("second first", "1.0 of the second")]
)
@on_one_engine()
def test_the_first_channel_that_has_a_package_gives_it(
    environment: Environment, channels: CondaChannels, order: str, taken: str
) -> None:
    channels.publish("first", "demo", "1.0", content="of the first")
    channels.publish("second", "demo", "1.0", content="of the second")
    environment.define(f'micromamba_install("demo", channels={[*order.split(), "conda-forge"]!r})')
    assert environment.demo() == taken


@on_one_engine()
def test_other_bytes_than_the_lockfile_has_are_refused(environment: Environment, channels: CondaChannels) -> None:
    channels.publish("conda-forge", "demo", "1.0")
    environment.define('micromamba_install("demo", channels=["conda-forge"])')
    environment.layer()

    channels.publish("conda-forge", "demo", "1.0", content="and something else")
    environment.forget()
    result = environment.run()
    result.assert_outcomes(failed=1, errors=1)
    told = result.stdout.str()
    assert "micromamba install demo -c conda-forge --yes" in told
    assert "SHA256 doesn't match expectation" in told
    assert "The index serves other bytes than the lockfile recorded. Do not trust it blindly" in told


@on_one_engine()
def test_a_package_that_is_there_in_another_version_is_replaced(
    environment: Environment, channels: CondaChannels
) -> None:
    channels.publish("conda-forge", "demo", "1.0")
    channels.publish("conda-forge", "demo", "2.0")
    channels.publish("conda-forge", "later", "1.0", depends=["demo >=2"])
    environment.define(
        'micromamba_install("demo=1", channels=["conda-forge"]).micromamba_install("later", channels=["conda-forge"])'
    )
    assert environment.demo() == "2.0"
    assert environment.printed("cd /opt/conda/conda-meta; ls demo-*.json").split() == ["demo-2.0-0.json"]


def test_nothing_but_the_environment_stays(environment: Environment, channels: CondaChannels) -> None:
    channels.publish("conda-forge", "demo", "1.0")
    environment.define('micromamba_install("demo", channels=["conda-forge"])')
    assert environment.printed("ls -A /tmp /dev/shm /opt/conda/pkgs 2>/dev/null || :").split() == ["/dev/shm:", "/tmp:"]
    history = environment.printed("cat /opt/conda/conda-meta/history")
    assert "# cmd: micromamba install demo -c conda-forge --yes\n" in history
    assert re.findall("^# update specs: (.*)$", history, re.MULTILINE) == ['["python=3.13", "pip"]', '["demo"]']
    assert "explicit" not in history
    records = environment.printed("cat /opt/conda/conda-meta/*")
    assert channels.url not in records
    assert '"https://conda.anaconda.org/conda-forge/noarch/demo-1.0-0.tar.bz2"' in records
    assert "/tmp" not in records


@on_one_engine()
def test_a_package_that_no_channel_has_is_told_at_the_call(environment: Environment, channels: CondaChannels) -> None:
    environment.define('micromamba_install("demo", channels=["conda-forge"])')
    result = environment.run()
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*micromamba install demo -c conda-forge --yes*", "*Could not solve for environment specs*"]
    )
