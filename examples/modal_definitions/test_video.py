from __future__ import annotations

from pathlib import Path

import pytest
from video import image, pattern, streams, thumbnail

pytestmark = pytest.mark.image(image)


def test_a_thumbnail_has_the_size_of_the_video(tmp_path: Path) -> None:
    pattern(tmp_path / "video.mp4", seconds=1)
    thumbnail(tmp_path / "video.mp4", tmp_path / "picture.png", at=0.5)
    (video,), (picture,) = streams(tmp_path / "video.mp4"), streams(tmp_path / "picture.png")
    assert (video["codec_name"], picture["codec_name"]) == ("h264", "png")
    assert [(found["width"], found["height"]) for found in (video, picture)] == [(160, 120)] * 2
