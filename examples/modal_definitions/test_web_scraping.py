from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from web_scraping import image, links

pytestmark = pytest.mark.image(image)

PAGE = b"""<!doctype html>
<a href="/first">first</a>
<script>
  const second = document.createElement("a");
  second.href = "/second";
  document.body.append(second);
</script>
"""


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_links_that_a_script_makes_are_found(site: str) -> None:
    assert links(site) == ["/first", "/second"]
