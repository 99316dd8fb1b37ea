"""Stars for secret values, in every form in which programs write them."""

from __future__ import annotations

import base64
import itertools
import json
import random
import shlex
import string
import subprocess
import urllib.parse
from collections.abc import Callable

import pytest

from pytest_imagebuild.masking import SHORTEST, STARS, Masking, StreamMask

VALUES = [
    "t0ken-4711",
    "p@ss/wo:rd?&=%",
    "with 'single' and \"double\" quotes",
    "back\\slash $HOME `x` \ttab",
    "schlüssel-ключ-鍵",
    "plain+base/64==",
    "abcd",
]

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "in a URL": lambda value: urllib.parse.quote(value, safe=""),
    "in the path of a URL": urllib.parse.quote,
    "in a form": urllib.parse.quote_plus,
    "in JSON": json.dumps,
    "in JSON without escapes": lambda value: json.dumps(value, ensure_ascii=False),
    "in Python": repr,
    "in Python, as ASCII": ascii,
    "in Python, as bytes": lambda value: repr(value.encode()),
    "in a shell": shlex.quote,
    "in base64": lambda value: base64.b64encode(value.encode()).decode(),
    "in base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "in base64 without padding": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("form", FORMS)
def test_a_value_is_found_in_each_form(form: str, value: str) -> None:
    written = FORMS[form](value)
    masked = Masking([value]).text(f"before {written} after")
    quotes = {
        "in JSON",
        "in JSON without escapes",
        "in Python",
        "in Python, as ASCII",
        "in Python, as bytes",
        "in a shell",
    }
    if form in quotes:
        masked = masked.replace("b'***'", STARS).replace("'***'", STARS)
        masked = masked.replace('b"***"', STARS).replace('"***"', STARS)
    assert masked == f"before {STARS} after"


@pytest.mark.parametrize("value", ["t0ken-4711", "t0ken-47112", "t0ken-471123", "ключ-ключ"])
@pytest.mark.parametrize("user", ["u", "me", "you", "them"])
def test_a_value_is_found_in_the_base64_of_a_longer_text(value: str, user: str) -> None:
    header = base64.b64encode(f"{user}:{value}:more".encode()).decode()
    masked = Masking([value]).text(f"Authorization: Basic {header}")
    shown = masked.removeprefix("Authorization: Basic ")
    first, _, last = shown.partition(STARS)
    assert STARS in shown
    # At most what shares a digit with its neighbours is left of it.
    assert len(header) - len(first) - len(last) >= len(value.encode()) * 8 // 6 - 3
    assert value[1:5].encode() not in base64.b64decode(first[: len(first) // 4 * 4])


def test_what_bash_traces_is_found() -> None:
    value = 'it\'s $5 "now"'
    done = subprocess.run(
        ["bash", "-xc", 'true "$VALUE"; declare -p VALUE'],
        env={"VALUE": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "$5" in done.stderr
    assert "$5" not in Masking([value]).text(done.stderr)
    assert "$5" not in Masking([value]).text(done.stdout)


def test_each_line_of_a_value_is_found() -> None:
    key = "-----BEGIN KEY-----\nMIIabcdefgh\n  indented line\nxy\n-----END KEY-----\n"
    masked = Masking([key]).text("got MIIabcdefgh, and >indented line<, and -----END KEY-----; xy")
    assert masked == "got ***, and >***<, and ***; xy"
    assert Masking([key]).text(f"all: {key}.") == "all: ***\n."


def test_wrapped_base64_is_found() -> None:
    value = "".join(random.Random(4).choices(string.printable[:60], k=200))
    wrapped = base64.encodebytes(value.encode()).decode()
    assert set(Masking([value]).text(wrapped).split()) == {STARS}


def test_the_password_of_an_address_is_found() -> None:
    masking = Masking(["https://me:t0k%2Fen@index.example/simple https://other.example"])
    assert masking.text("t0k%2Fen, t0k/en, me, index.example") == "***, ***, me, index.example"


@pytest.mark.parametrize("value", ["", "1", "on", "abc", "a\nb", "   x   "])
def test_a_value_shorter_than_four_characters_stays(value: str) -> None:
    assert SHORTEST == 4
    assert not Masking([value])
    assert Masking([value]).text("1 on abc a x") == "1 on abc a x"


def test_without_values_every_text_stays() -> None:
    assert Masking().text("x") == "x"
    assert StreamMask(Masking()).feed("x") == "x"


def test_the_longer_of_two_values_is_found_first() -> None:
    assert Masking(["token", "token-2"]).text("token-2 token token-3") == "*** *** ***-3"


def test_a_value_with_colors_in_it_is_found_and_the_colors_stay() -> None:
    text = "\x1b[1ma\x1b[0m t0ken\x1b[31m-47\x1b[0m11 b"
    assert Masking(["t0ken-4711"]).text(text) == "\x1b[1ma\x1b[0m ***\x1b[31m\x1b[0m b"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("assert 'abcdefghij...qrstuvwxyz' == 1", "assert '***...***' == 1"),
        ("assert {'a': 'abcd...wxyz'}", "assert {'a': '***...***'}"),
        ("assert {'a': 'abc...xyz'}", "assert {'a': 'abc...xyz'}"),
        ("cut line abcdefghijkl", "cut line ***"),
        ("opqrstuvwxyz goes on", "*** goes on"),
        ("abcdefghijkl\nmnopqrstuvwxyz", "***\n***"),
        ("abcdefg", "abcdefg"),
        ("hijklmnop", "hijklmnop"),
        ("the alphabet abcdefghi is long", "the alphabet abcdefghi is long"),
    ],
)
def test_the_beginning_and_the_end_of_a_cut_value_are_found(text: str, masked: str) -> None:
    assert Masking([string.ascii_lowercase]).text(text) == masked


def test_values_are_found_in_a_tree_and_in_its_keys() -> None:
    tree = {"a": ["t0ken", ("x t0ken",), 1, None], "t0ken": {"type": "t0ken"}}
    assert Masking(["t0ken"]).tree(tree, but=frozenset({"type"})) == {
        "a": ["***", ["x ***"], 1, None],
        "***": {"type": "t0ken"},
    }
    assert Masking(["type"]).tree({"type": "type"}, keys=False) == {"type": "***"}


def test_no_form_of_masking_shows_a_value() -> None:
    assert repr(Masking(["t0ken-4711"])).startswith("Masking(")
    assert "t0ken" not in repr(Masking(["t0ken-4711"]))


# streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 12))
def test_a_value_is_found_wherever_a_stream_is_split(size: int) -> None:
    value = "abcabd-t0ken"
    text = f"one {value} two {value}{value} abcab abca\n{value}"
    stream = StreamMask(Masking([value]))
    parts = [stream.feed("".join(part)) for part in itertools.zip_longest(*[iter(text)] * size, fillvalue="")]
    assert "".join([*parts, stream.flush(last=True)]) == "one *** two ****** abcab abca\n***"


def test_output_without_the_beginning_of_a_value_is_shown_at_once() -> None:
    stream = StreamMask(Masking(["t0ken-4711"]))
    assert stream.feed("password: ") == "password: "
    assert stream.feed("x t0") == "x "
    assert stream.feed("day\n") == "t0day\n"


def test_a_short_rest_is_shown_and_a_long_one_waits_to_the_end() -> None:
    stream = StreamMask(Masking(["t0ken-4711"]))
    assert (stream.feed("t0k"), stream.flush()) == ("", "t0k")
    assert (stream.feed("t0ken"), stream.flush(), stream.flush(last=True)) == ("", "", STARS)
    assert stream.flush(last=True) == ""
