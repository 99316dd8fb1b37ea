"""A package index that fails: the error names the call, the index and what the installer said, and nothing is left."""

from __future__ import annotations

import pytest
from engines import CHOSEN, EngineUnderTest, on_one_engine
from locking import Locking
from packages import SILENT_SECONDS, PackageIndex

SAID = {
    "pip_install": {
        "404": "Could not fetch URL {page}: 404 Client Error: ",
        "503": "Could not fetch URL {page}: ",
        "cut": "The last page of an index that pip asked for: {page}",
        "silent": "Could not fetch URL {page}: connection error: ",
    },
    "uv_pip_install": {
        "503": "HTTP status server error (503 Service Unavailable) for url ({page})",
        "cut": "error decoding response body for url ({page})",
        "silent": "error sending request for url ({page})",
    },
    "apt_install": {
        "404": "E: Failed to fetch {page}  404  Not Found",
        "cut": "E: Failed to fetch {page}  ",
    },
}
"""What is told of each fault. uv asks another index for what one has not; apt tries for long."""


# What a failed step leaves is the engine's business, what the installer said is not: one installer is tried on each
# engine, and each installer on one.
@pytest.mark.parametrize(
    ("engine", "tool"),
    [*((engine, "pip_install") for engine in CHOSEN), *((CHOSEN[-1], tool) for tool in SAID if tool != "pip_install")],
    indirect=["engine"],
    scope="session",
)
def test_an_index_that_fails_is_named_with_what_the_installer_said_and_the_next_run_is_green(
    locking: Locking,
    index: PackageIndex,
    engine: EngineUnderTest,
    nonce: str,
    tool: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"):
        monkeypatch.setenv(variable, str(SILENT_SECONDS - 2))
    for variable in ("PIP_RETRIES", "UV_HTTP_RETRIES"):
        monkeypatch.setenv(variable, "0")
    index.publish("before", "1.0")
    index.publish("demo", "1.0")
    index.publish_debian("demo", "1.0-1")
    if tool == "apt_install":
        source = f"deb [trusted=yes] http://{index.address}/debian ./"
        before = f"run_commands(\"rm -r /etc/apt/sources.list.d; echo '{source}' > /etc/apt/sources.list\")"
        page = f"http://{index.address}/debian/./Packages"
    else:
        # uv comes from this index, too.
        before, page = f'{tool}("before")', f"{index.url}demo/"
    locking.define(before)
    locking.run().assert_outcomes(passed=1)
    locking.define(f'{before}.{tool}("demo")')

    for fault, said in SAID[tool].items():
        index.fault = fault
        result = locking.run()
        result.assert_outcomes(failed=1)
        output = result.stdout.str()
        assert f'.py:4: {tool}("demo") failed' in output, output
        assert said.format(page=page) in output, output
        assert not [line for line in result.stdout.lines if line.startswith("E   Traceback")]
        assert engine.layers('("demo")') == {}
        assert engine.remains(nonce) == []

    index.fault = ""
    locking.run().assert_outcomes(passed=1)
    assert engine.remains(nonce) == []


@on_one_engine()
@pytest.mark.parametrize("tool", ["pip_install", "uv_pip_install"])
def test_a_package_whose_download_takes_long_is_pinned_like_any_other(
    locking: Locking, index: PackageIndex, tool: str
) -> None:
    index.publish("large", "1.0", content="large" * 200_000)
    locking.define(f'{tool}("large")')
    assert locking.installed("large") == {"large": "1.0"}
    assert locking.pinned()["large"] == "1.0"
