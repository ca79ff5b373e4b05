"""Images as `data:` URLs: what is taken, and what is refused before an engine sees it."""

import base64
import struct
import zlib

import pytest

from serve.api.fields.media import PIXELS_MAX, read_image_data, read_image_url
from serve.core.errors import InvalidRequest
from tests.api.fields.images import data_url, png


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/PNG"])
def test_an_image_is_taken_as_it_came(kind: str) -> None:
    url = data_url(png(3, 2), kind)
    assert read_image_url(url, "x") == data_url(png(3, 2))
    assert read_image_data("image/png", url.partition(",")[2], "x") == data_url(png(3, 2))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.org/a.png", "addresses are not fetched"),
        ("http://169.254.169.254/latest", "addresses are not fetched"),
        ("file:///etc/passwd", "addresses are not fetched"),
        ("data:image/png;base64", "addresses are not fetched"),
        (7, "a string"),
        (data_url(b"<svg/>", "image/svg+xml"), "one of: png, jpeg, gif, webp"),
        (data_url(b"%!PS", "application/postscript"), "one of"),
        ("data:image/png,abc", "must be in base64"),
        ("data:image/png;charset=x;base64,AAAA", "must be in base64"),
        ("data:image/png;base64,####", "not valid base64"),
        ("data:image/png;base64,é", "not valid base64"),
        (data_url(png(1, 1), "image/jpeg"), "not of type `image/jpeg`"),
        (data_url(b"%!PS-Adobe", "image/png"), "not of type"),
        (data_url(b"\xff\xd8\xff", "image/jpeg"), "damaged"),
        (data_url(b"RIFF\0\0\0\0WEBP", "image/webp"), "damaged"),
        (data_url(png(1, 1)[:15], "image/png"), "damaged"),
        (data_url(png(0, 5)), "damaged"),
        (data_url(png(2**14, 2**14)), "pixels"),
        (data_url(png(2**31 - 1, 2**31 - 1)), "pixels"),
    ],
)
def test_what_is_no_bearable_image_is_refused_with_the_field(url: object, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        read_image_url(url, "messages[0].content[1].image_url.url")
    assert refused.value.param == "messages[0].content[1].image_url.url"


def test_the_largest_image_is_taken() -> None:
    side = int(PIXELS_MAX**0.5)
    assert read_image_url(data_url(png(side, side)), "x")


def test_data_and_its_type_are_told_apart_in_errors() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_image_data("image/bmp", "AAAA", "source")
    assert refused.value.param == "source.media_type"
    with pytest.raises(InvalidRequest) as refused:
        read_image_data("image/png", base64.b64encode(b"no").decode(), "source")
    assert refused.value.param == "source.data"


def test_the_images_of_these_tests_are_images() -> None:
    data = png(3, 2)
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    assert len(zlib.decompress(data[41:-16])) == 2 * (1 + 3 * 3)
