from __future__ import annotations

from pathlib import Path

import pytest

from pytest_imagebuild.engines.network import CA_BUNDLE, HostNetwork, pip_config_files


def network(environ: dict[str, str] | None = None, *pip_config: Path) -> HostNetwork:
    return HostNetwork.from_environment(environ or {}, pip_config)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    return path


def test_a_host_without_settings_gives_none() -> None:
    assert network().for_steps() == ({}, (), "default")
    assert network().for_sessions(own_network=True) == ({}, ())


def test_proxies_of_both_cases_are_passed_on() -> None:
    proxies = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost,.corp", "all_proxy": "socks5://proxy:1080"}
    assert network(proxies | {"PATH": "/bin"}).for_steps() == (proxies, (), "default")
    assert network(proxies).for_sessions(own_network=True) == (proxies, ())


@pytest.mark.parametrize(
    "name",
    ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"],
)
def test_a_ca_bundle_becomes_a_file_in_memory_that_all_tools_are_told_of(name: str, bundle: Path) -> None:
    variables, (tool,), reach = network({name: str(bundle)}).for_steps()
    assert (tool.path, tool.source, tool.mode) == (CA_BUNDLE, bundle, 0o644)
    assert CA_BUNDLE.startswith("/dev/shm/")
    assert set(variables.values()) == {CA_BUNDLE}
    assert {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"} < set(variables)
    assert reach == "default"
    assert network({name: str(bundle)}).for_sessions(own_network=True) == (variables, (tool,))


def test_a_ca_bundle_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert network({"SSL_CERT_FILE": str(tmp_path / "none.pem")}).for_steps() == ({}, (), "default")


def test_the_certificates_of_pips_configuration_are_used(tmp_path: Path, bundle: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\ncert = {bundle}\n")
    _, (tool,), _ = network({}, config).for_steps()
    assert tool.source == bundle


def test_index_settings_are_passed_on() -> None:
    settings = {
        "PIP_INDEX_URL": "https://pypi.corp/simple",
        "PIP_TRUSTED_HOST": "pypi.corp other.corp:8443",
        "PIP_DEFAULT_TIMEOUT": "60",
        "UV_INDEX": "corp=https://pypi.corp/simple https://other.corp/simple",
        "UV_INDEX_CORP_USERNAME": "me",
        "UV_INDEX_CORP_PASSWORD": "s3cret",
        "UV_HTTP_TIMEOUT": "90",
    }
    assert network(settings).for_steps() == (settings, (), "default")


@pytest.mark.parametrize("value", ["/opt/wheels", "file:///opt/wheels", "./wheels", "~/wheels", "wheels"])
@pytest.mark.parametrize("name", ["PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS"])
def test_a_path_of_the_host_is_left_out(name: str, value: str) -> None:
    assert network({name: value}).for_steps() == ({}, (), "default")


def test_values_are_left_out_one_by_one() -> None:
    found, _, _ = network(
        {
            "PIP_EXTRA_INDEX_URL": "file:///opt/simple https://a/simple\n  https://b/simple",
            "UV_FIND_LINKS": "/opt/wheels,https://a/wheels , https://b/wheels",
            "UV_INDEX": "local=file:///opt/simple far=https://far/simple",
        }
    ).for_steps()
    assert found == {
        "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
        "UV_FIND_LINKS": "https://a/wheels,https://b/wheels",
        "UV_INDEX": "far=https://far/simple",
    }


def test_pip_configuration_is_read_and_variables_win(tmp_path: Path) -> None:
    config, later = tmp_path / "pip.conf", tmp_path / "later.conf"
    config.write_text(
        "[global]\nindex-url = https://global/simple\ntimeout = 10\nfind-links = /opt/wheels\n"
        "extra-index-url =\n  https://a/simple\n  file:///b\n[install]\ntrusted-host = global\n"
    )
    later.write_text("[install]\nindex_url = https://install/simple\n[global]\ntimeout = 20\n")
    found, _, _ = network({"PIP_DEFAULT_TIMEOUT": "30"}, config, later).for_steps()
    assert found == {
        "PIP_INDEX_URL": "https://install/simple",
        "PIP_EXTRA_INDEX_URL": "https://a/simple",
        "PIP_TRUSTED_HOST": "global",
        "PIP_DEFAULT_TIMEOUT": "30",
    }


def test_a_broken_pip_configuration_is_as_good_as_none(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("index-url = no section\n")
    assert network({}, config).for_steps() == ({}, (), "default")


def test_pip_reads_no_files_when_it_is_told_so(tmp_path: Path) -> None:
    assert pip_config_files({"PIP_CONFIG_FILE": "/dev/null"}) == []
    named = tmp_path / "my.conf"
    files = pip_config_files({"PIP_CONFIG_FILE": str(named), "HOME": str(tmp_path)})
    assert files[-1] == named
    assert tmp_path / ".config" / "pip" / "pip.conf" in files


LOOPBACK = [
    {"HTTPS_PROXY": "http://127.0.0.1:3128"},
    {"http_proxy": "localhost:3128"},
    {"ALL_PROXY": "socks5://[::1]:1080"},
    {"PIP_INDEX_URL": "http://user:pass@localhost:8080/simple"},
    {"PIP_EXTRA_INDEX_URL": "http://127.3.2.1/simple"},
    {"UV_INDEX": "dev=http://pypi.localhost:3141/simple"},
    {"UV_DEFAULT_INDEX": "http://0.0.0.0:3141/simple"},
]


@pytest.mark.parametrize("environ", LOOPBACK)
def test_steps_use_the_network_of_the_host_where_only_the_host_reaches_an_address(environ: dict[str, str]) -> None:
    assert network(environ).for_steps() == (environ, (), "host")


@pytest.mark.parametrize("environ", LOOPBACK)
def test_sessions_get_nothing_that_only_the_host_reaches(environ: dict[str, str]) -> None:
    assert network({**environ, "NO_PROXY": "x"} if "PROXY" in str(environ).upper() else environ).for_sessions(
        own_network=True
    ) == (
        {},
        (),
    )


def test_what_is_exempt_from_a_proxy_does_not_ask_for_the_network_of_the_host() -> None:
    assert network({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "localhost,127.0.0.1"}).for_steps()[2] == "default"


def test_sessions_keep_the_values_that_they_can_reach() -> None:
    variables, _ = network({"PIP_EXTRA_INDEX_URL": "http://localhost/simple https://far/simple"}).for_sessions(
        own_network=True
    )
    assert variables == {"PIP_EXTRA_INDEX_URL": "https://far/simple"}


def test_credentials_do_not_show() -> None:
    shown = repr(
        network(
            {
                "HTTPS_PROXY": "http://me:hunter2@proxy:3128",
                "http_proxy": "me:hunter2@proxy:3128",
                "PIP_EXTRA_INDEX_URL": "https://a/simple https://me:hunter2@b/simple https://hunter2@c/simple",
                "UV_INDEX_B_PASSWORD": "hunter2",
            }
        )
    )
    assert "hunter2" not in shown
    assert "proxy:3128" in shown
    assert "@b/simple" in shown


def test_a_container_in_the_network_of_this_machine_gets_what_only_this_machine_reaches() -> None:
    variables = {"HTTP_PROXY": "http://127.0.0.1:3128", "PIP_INDEX_URL": "http://localhost:8080/simple"}
    assert network(variables).for_sessions(own_network=False) == (variables, ())
    assert network(variables).for_sessions(own_network=True) == ({}, ())
