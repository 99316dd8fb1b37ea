"""Modules of the package are imported as Python does, those of others as pytest does."""

from __future__ import annotations

import pytest
from doubles import plugin_arguments

pytest_plugins = ["pytester"]


def test_pytest_rewrites_no_module_of_the_package_and_all_that_it_would_of_others(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import sys
        from importlib.machinery import SourceFileLoader

        import pytest_imagebuild.image.chain

        def test_ours():
            mine = sys.modules["pytest_imagebuild.image.chain"]
            assert type(mine.__spec__.loader) is SourceFileLoader

        def test_mine():
            assert type(sys.modules[__name__].__spec__.loader) is not SourceFileLoader
            assert sum("_Finder" in repr(finder) for finder in sys.meta_path) == 1
        """,
    )
    pytester.runpytest_subprocess(*plugin_arguments(), timeout=60).assert_outcomes(passed=2)
