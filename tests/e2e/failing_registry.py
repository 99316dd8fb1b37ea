"""A registry between a test and the one of the test ground, which fails as a test says."""

from __future__ import annotations

import contextlib
import http.client
import os
from typing import final

from serving import Answer, Request, Served

__all__ = ["FailingRegistry"]

_PASSED_ON = ("Accept", "Range", "Authorization")
_GIVEN_BACK = ("Content-Type", "Docker-Content-Digest", "Content-Range", "Docker-Distribution-Api-Version")


@final
class FailingRegistry(Served):
    """Gives what the ground's registry has.

    `fault` is how it fails: a status, or in the blobs of images, "cut" in the middle of each or "wrong" of content.
    """

    fault = ""

    def answer(self, request: Request) -> Answer:
        """Return what the registry says, or the fault."""
        if self.fault.isdecimal():
            return int(self.fault), b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "made to fail"}]}', {}
        status, body, headers = self._asked(request)
        if self.fault and "/blobs/" in request.path and len(body) > 10_000:
            if self.fault == "cut":
                cut = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
                return status, body[: len(body) // 2] if status == 200 else b"", cut
            return status, bytes(len(body)), headers
        return status, body, headers

    def _asked(self, request: Request) -> Answer:
        passed = {name: ", ".join(values) for name in _PASSED_ON if (values := request.headers.get_all(name))}
        connection = http.client.HTTPConnection(os.environ["IMAGEBUILD_TEST_REGISTRY"], timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", request.path, headers=passed)
            response = connection.getresponse()
            headers = {name: value for name in _GIVEN_BACK if (value := response.headers.get(name))}
            return response.status, response.read(), headers
