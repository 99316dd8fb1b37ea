"""The warning about limits that this machine cannot hold."""

from __future__ import annotations

import warnings

import pytest
from doubles import plugin_arguments

from pytest_imagebuild import Image
from pytest_imagebuild.dispatch.requests import SessionKey
from pytest_imagebuild.dispatch.unenforced import LimitWarning, warn_of_limits
from pytest_imagebuild.engines.protocol import Capabilities

pytest_plugins = ["pytester"]

KEY = SessionKey(image=Image.debian_slim("3.13"), memory=512 * 1024 * 1024, cpu=0.5)


def capabilities(**unenforced: str) -> Capabilities:
    return Capabilities(
        engine="embedded",
        version="1",
        platform="linux/amd64",
        identity="here",
        host_network=True,
        unenforced=unenforced,
    )


@pytest.fixture
def item(pytester: pytest.Pytester) -> pytest.Item:
    module = pytester.getmodulecol("def test_it():\n    pass\n", configargs=plugin_arguments())
    [item] = pytester.genitems([module])
    return item


def test_a_limit_that_cannot_hold_is_told_at_the_line_of_the_test(item: pytest.Item) -> None:
    with pytest.warns(LimitWarning) as caught:
        warn_of_limits(item, KEY, capabilities(cpu="No one knows why."))
    [warning] = caught
    assert str(warning.message) == "The embedded engine cannot hold cpu=0.5 here. No one knows why."
    assert (warning.filename, warning.lineno) == (item.location[0], 1)


def test_each_limit_is_told_by_itself(item: pytest.Item) -> None:
    with pytest.warns(LimitWarning) as caught:
        warn_of_limits(item, KEY, capabilities(cpu="Why.", memory="Why not."))
    assert [str(warning.message).split(" here.")[0] for warning in caught] == [
        "The embedded engine cannot hold memory=512",
        "The embedded engine cannot hold cpu=0.5",
    ]


def test_nothing_is_told_of_limits_that_hold_or_that_nobody_asked_for(item: pytest.Item) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_limits(item, KEY, capabilities())
        warn_of_limits(item, SessionKey(image=KEY.image), capabilities(cpu="Why.", memory="Why not."))
