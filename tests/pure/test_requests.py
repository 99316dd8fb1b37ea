"""What a test asks for with the marker, and what is said of a wrong argument."""

from __future__ import annotations

import pytest
from doubles import plugin_arguments

from pytest_imagebuild import Image, Volume
from pytest_imagebuild.dispatch.requests import Request, SessionKey, request_of, requests_of

pytest_plugins = ["pytester"]

SLIM = Image.debian_slim("3.13")
SOURCE = """\
import pytest
from pytest_imagebuild import Image, Secret, Volume

SLIM = Image.debian_slim("3.13")
TRIXIE = Image.from_registry("debian:trixie")

@pytest.mark.image({arguments})
def test_it():
    pass
"""


def items(pytester: pytest.Pytester, source: str) -> list[pytest.Item]:
    module = pytester.getmodulecol(source, configargs=plugin_arguments())
    return pytester.genitems([module])


def request(pytester: pytest.Pytester, arguments: str) -> Request | None:
    [item] = items(pytester, SOURCE.format(arguments=arguments))
    return request_of(item)


KNOWN = "gpu, cpu, memory, timeout, env, secrets, volumes, network, isolation"
MEMORY = 'a number of MiB, or a text like "512M" or "2G"'
MIB = 1024 * 1024


def session(image: Image = SLIM, *, network: bool = True, **environment: str) -> SessionKey:
    return SessionKey(image=image, environment=tuple(sorted(environment.items())), network=network)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("SLIM", Request(session=session(), timeout=None)),
        ("SLIM, timeout=None, env=None", Request(session=session(), timeout=None)),
        ("SLIM, timeout=3", Request(session=session(), timeout=3.0)),
        ("SLIM, timeout=0.5", Request(session=session(), timeout=0.5)),
        ("SLIM, env={'B': '2', 'A': '1'}", Request(session=session(A="1", B="2"), timeout=None)),
        ("SLIM, env={}", Request(session=session(), timeout=None)),
        ("SLIM, network=False", Request(session=session(network=False), timeout=None)),
        ("SLIM, memory=512", Request(session=SessionKey(image=SLIM, memory=512 * MIB), timeout=None)),
        ("SLIM, memory='512M'", Request(session=SessionKey(image=SLIM, memory=512 * MIB), timeout=None)),
        ("SLIM, memory='2G'", Request(session=SessionKey(image=SLIM, memory=2048 * MIB), timeout=None)),
        ("SLIM, memory=(256, 512)", Request(session=SessionKey(image=SLIM, memory=512 * MIB), timeout=None)),
        ("SLIM, cpu=1", Request(session=SessionKey(image=SLIM, cpu=1.0), timeout=None)),
        ("SLIM, cpu=0.25", Request(session=SessionKey(image=SLIM, cpu=0.25), timeout=None)),
        ("SLIM, cpu=(0.5, 2.0)", Request(session=SessionKey(image=SLIM, cpu=2.0), timeout=None)),
        ("SLIM, memory=None, cpu=None", Request(session=session(), timeout=None)),
        ("SLIM, isolation='test'", Request(session=SessionKey(image=SLIM, isolation="test"), timeout=None)),
        ("SLIM, isolation='session'", Request(session=session(), timeout=None)),
        (
            "SLIM, volumes={'/b/': Volume.from_name('b').read_only(), '/a': Volume.from_name('a')}",
            Request(
                session=SessionKey(
                    image=SLIM,
                    volumes=(("/a", Volume.from_name("a")), ("/b", Volume.from_name("b").read_only())),
                ),
                timeout=None,
            ),
        ),
        ("SLIM, volumes=None", Request(session=session(), timeout=None)),
    ],
)
def test_the_arguments_make_the_request(pytester: pytest.Pytester, arguments: str, expected: Request) -> None:
    assert request(pytester, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "it takes an Image, found nothing. Write @pytest.mark.image(Image.debian_slim())."),
        ("'python:3.13'", "it takes Images, found str 'python:3.13'."),
        ("None", "it takes Images, found NoneType None."),
        ("[SLIM]", 'it takes Images, found list [Image.debian_slim("3.13")].'),
        ("SLIM, gpus='H100'", f"unknown argument 'gpus'; it knows {KNOWN}."),
        ("image=SLIM", f"unknown argument 'image'; it knows {KNOWN}."),
        ("SLIM, env='A=1'", "env takes a dict of strings, found str."),
        ("SLIM, env={'A': 1, 'B': '2', 3: 'C'}", "env takes a dict of strings; these are not: ['A', 3]."),
        ("SLIM, secrets='t0ken'", "secrets takes a list of Secret instances, found str."),
        ("SLIM, secrets=Secret.from_name('x')", "secrets takes a list of Secret instances, found Secret."),
        ("SLIM, secrets=['t0ken']", "secrets takes a list of Secret instances, found str in it."),
        ("SLIM, network=None", "network takes True or False, found None."),
        ("SLIM, network='none'", "network takes True or False, found 'none'."),
        ("SLIM, memory='lots'", f"memory takes {MEMORY}, found 'lots'."),
        ("SLIM, memory='2GB'", f"memory takes {MEMORY}, found '2GB'."),
        ("SLIM, memory=512.5", f"memory takes {MEMORY}, found 512.5."),
        ("SLIM, memory=True", f"memory takes {MEMORY}, found True."),
        ("SLIM, memory=(1, 2, 3)", f"memory takes {MEMORY}, found (1, 2, 3)."),
        ("SLIM, memory=(512, None)", f"memory takes {MEMORY}, found (512, None)."),
        ("SLIM, memory=0", "memory takes 6 MiB or more, found 0."),
        ("SLIM, memory='1M'", "memory takes 6 MiB or more, found '1M'."),
        ("SLIM, cpu='2'", "cpu takes a number of cores of 0.01 or more, found '2'."),
        ("SLIM, cpu=0", "cpu takes a number of cores of 0.01 or more, found 0."),
        ("SLIM, cpu=True", "cpu takes a number of cores of 0.01 or more, found True."),
        ("SLIM, cpu=(1.0, None)", "cpu takes a number of cores of 0.01 or more, found (1.0, None)."),
        ("SLIM, cpu=float('nan')", "cpu takes a number of cores of 0.01 or more, found nan."),
        ("SLIM, isolation='bogus'", 'isolation takes "session" or "test", found \'bogus\'.'),
        ("SLIM, isolation=None", 'isolation takes "session" or "test", found None.'),
        ("SLIM, volumes=['/a']", "volumes must be a dict of mount paths and Volumes, got ['/a'] (list)."),
        (
            "SLIM, volumes={'/a': Volume.from_name('a'), '/b': Volume.from_name('a')}",
            "the volume 'a' cannot be mounted at two paths: '/a' and '/b'.",
        ),
        ("SLIM, timeout='3'", "timeout takes a number of seconds above 0, found '3'."),
        ("SLIM, timeout=0", "timeout takes a number of seconds above 0, found 0."),
        ("SLIM, timeout=-1", "timeout takes a number of seconds above 0, found -1."),
        ("SLIM, timeout=True", "timeout takes a number of seconds above 0, found True."),
        ("SLIM, timeout=float('inf')", "timeout takes a number of seconds above 0, found inf."),
        ("SLIM, timeout=float('nan')", "timeout takes a number of seconds above 0, found nan."),
    ],
)
def test_a_wrong_argument_is_told_with_the_line_of_the_test(
    pytester: pytest.Pytester, arguments: str, sentence: str
) -> None:
    [item] = items(pytester, SOURCE.format(arguments=arguments))
    with pytest.raises(pytest.UsageError) as caught:
        request_of(item)
    file = item.location[0]
    assert file.endswith(".py")
    assert str(caught.value) == f"{file}:7: @pytest.mark.image of test_it: {sentence}"


def test_an_item_without_the_marker_asks_for_nothing(pytester: pytest.Pytester) -> None:
    [item] = items(pytester, "def test_it():\n    pass\n")
    assert request_of(item) is None


def test_several_images_make_one_request_each(pytester: pytest.Pytester) -> None:
    found = items(pytester, SOURCE.format(arguments="SLIM, TRIXIE, timeout=2"))
    assert [item.name for item in found] == ["test_it[py3.13]", "test_it[debian-trixie]"]
    assert [request_of(item) for item in found] == [
        Request(session=session(), timeout=2.0),
        Request(session=session(Image.from_registry("debian:trixie")), timeout=2.0),
    ]


def test_a_wrong_image_among_several_is_told(pytester: pytest.Pytester) -> None:
    first, *_ = items(pytester, SOURCE.format(arguments="SLIM, 'TRIXIE'"))
    with pytest.raises(
        pytest.UsageError, match=r":7: @pytest\.mark\.image of test_it\[py3\.13\]: it takes Images, found"
    ):
        request_of(first)


def test_the_closest_marker_counts(pytester: pytest.Pytester) -> None:
    one, other = items(
        pytester,
        "import pytest\n"
        "from pytest_imagebuild import Image\n"
        "pytestmark = pytest.mark.image(Image.debian_slim('3.13'), timeout=9)\n"
        "class TestIt:\n"
        "    pytestmark = pytest.mark.image(Image.from_registry('debian:trixie'))\n"
        "    def test_one(self): pass\n"
        "def test_other(): pass\n",
    )
    assert request_of(one) == Request(session=session(Image.from_registry("debian:trixie")), timeout=None)
    assert request_of(other) == Request(session=session(), timeout=9.0)


def test_equal_requests_share_a_session_wherever_they_are_written(pytester: pytest.Pytester) -> None:
    one, other, apart = items(
        pytester,
        "import pytest\n"
        "from pytest_imagebuild import Image\n"
        "@pytest.mark.image(Image.debian_slim('3.13'), env={'A': '1', 'B': '2'}, timeout=1)\n"
        "def test_one(): pass\n"
        "@pytest.mark.image(Image.debian_slim('3.13'), env={'B': '2', 'A': '1'})\n"
        "def test_other(): pass\n"
        "@pytest.mark.image(Image.debian_slim('3.13'))\n"
        "def test_apart(): pass\n",
    )
    keys = [found.session for item in (one, other, apart) if (found := request_of(item))]
    assert keys[0] == keys[1] != keys[2]
    assert len(set(keys)) == 2


def test_equal_limits_share_a_session_however_they_are_written(pytester: pytest.Pytester) -> None:
    found = items(
        pytester,
        "import pytest\n"
        "from pytest_imagebuild import Image\n"
        "@pytest.mark.image(Image.debian_slim('3.13'), memory=2048, cpu=1)\n"
        "def test_one(): pass\n"
        "@pytest.mark.image(Image.debian_slim('3.13'), memory='2G', cpu=(0.5, 1.0))\n"
        "def test_other(): pass\n"
        "@pytest.mark.image(Image.debian_slim('3.13'), memory='3G', cpu=1)\n"
        "def test_apart(): pass\n",
    )
    one, other, apart = (request.session for item in found if (request := request_of(item)))
    assert one == other != apart


def test_a_session_is_shared_only_by_tests_with_the_same_secret_values(pytester: pytest.Pytester) -> None:
    found = items(
        pytester,
        "import pytest\n"
        "from pytest_imagebuild import Image, Secret\n"
        "def asks(**given): return pytest.mark.image(Image.debian_slim('3.13'), **given)\n"
        "@asks(secrets=[Secret.from_dict({'A': 'first-value'})])\n"
        "def test_one(): pass\n"
        "@asks(secrets=(Secret.from_dict({'A': 'first-value'}),))\n"
        "def test_same(): pass\n"
        "@asks(secrets=[Secret.from_dict({'A': 'other-value'})])\n"
        "def test_other_value(): pass\n"
        "@asks(secrets=[Secret.from_local_environ(['A'])])\n"
        "def test_other_place(): pass\n"
        "@asks(secrets=[])\n"
        "def test_none(): pass\n",
    )
    one, same, *others = (request.session for item in found if (request := request_of(item)))
    assert one == same
    assert len({one, *others}) == 4
    assert "value" not in repr(one)
    assert others[-1] == session()


def test_tests_that_ask_for_the_same_have_one_request(pytester: pytest.Pytester) -> None:
    two_more = "\n\n@pytest.mark.image(SLIM)\ndef test_same():\n    pass\n\ndef test_of_the_host():\n    pass\n"
    one, same, host = items(pytester, SOURCE.format(arguments="SLIM") + two_more)
    found = requests_of([one, same, host])
    assert list(found) == [one, same]
    assert found[one] is found[same]
