"""Web scraping: a browser from Debian, steered by a command line; what it renders is read by a parser from PyPI."""

from __future__ import annotations

import subprocess

from pytest_imagebuild import Image

image = Image.debian_slim(python_version="3.13").apt_install("chromium").uv_pip_install("beautifulsoup4==4.14.2")

with image.imports():
    from bs4 import BeautifulSoup


def links(address: str) -> list[str]:
    """Return where the links of a page lead, those that its scripts make among them."""
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    page = subprocess.run([*browser, address], check=True, capture_output=True, text=True, timeout=120).stdout
    return [link["href"] for link in BeautifulSoup(page, "html.parser").select("a[href]")]
