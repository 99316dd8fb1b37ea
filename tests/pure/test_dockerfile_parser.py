"""From the text of a Dockerfile to typed instructions and stages."""

from __future__ import annotations

import pytest

from pytest_imagebuild.dockerfile import (
    Command,
    Copy,
    Dockerfile,
    DockerfileError,
    From,
    Healthcheck,
    Instruction,
    Pairs,
    Run,
    Value,
    Words,
    parse,
    read,
)
from pytest_imagebuild.dockerfile.commands import executed

PLATFORM = "linux/amd64"


def one(text: str) -> Instruction:
    (found,), _ = parse(text)
    return found


def stages(text: str, **build_args: str) -> Dockerfile:
    return read(text, build_args=build_args, platform=PLATFORM)


def run(text: str) -> Run:
    found = one(text)
    assert isinstance(found, Run)
    return found


def copied(text: str) -> Copy:
    found = one(text)
    assert isinstance(found, Copy)
    return found


def test_comments_and_empty_lines_do_not_end_what_is_continued() -> None:
    found, _ = parse("# top\n\nRUN a && \\\n  # inner\n\n  b \\\n  c\n\nUSER x\n")
    assert [(item.line, item.end, item.source) for item in found] == [
        (3, 7, "RUN a &&   b   c"),
        (9, 9, "USER x"),
    ]


def test_a_doubled_escape_at_the_end_of_a_line_continues_nothing() -> None:
    found, _ = parse("RUN a \\\\\nUSER x\n")
    assert [item.source for item in found] == ["RUN a \\\\", "USER x"]


def test_a_backtick_continues_where_a_directive_says_so() -> None:
    found, escape = parse("# escape=`\nRUN a `\n b \\\nUSER x")
    assert escape == "`"
    assert [item.source for item in found] == ["RUN a  b \\", "USER x"]


def test_a_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# comment\n# escape=`\nRUN a \\\n b")[1] == "\\"


def test_windows_line_ends_and_a_byte_order_mark_mean_nothing() -> None:
    found, _ = parse("\ufeffFROM a\r\nRUN b \\\r\n c\r\n")
    assert [item.source for item in found] == ["FROM a", "RUN b  c"]


def test_here_documents_belong_to_their_instruction() -> None:
    found = run("RUN <<A cat <<-'B' && x\none $V\nA\n\ttwo\n\tB\n")
    assert [(item.name, item.content, item.text, item.expand) for item in found.heredocs] == [
        ("A", "one $V\n", "one $V\n", True),
        ("B", "\ttwo\n", "two\n", False),
    ]
    assert found.end == 5


def test_a_here_document_without_an_end_is_said_by_line() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\nRUN <<EOF\nx\n")
    assert (caught.value.line, caught.value.problem) == (2, "the here-document EOF has no end: a line that is just EOF")


def test_copy_takes_here_documents_for_sources() -> None:
    found = copied("COPY a <<one <<'two' /to/\n1\none\n2\ntwo\n")
    assert (found.sources, found.destination) == (("a",), "/to/")
    assert [document.name for document in found.heredocs] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "argv", "shell"),
    [
        ("RUN a b", ("a b",), True),
        ('RUN ["a", "b c"]', ("a", "b c"), False),
        ("RUN [a, b]", ("[a, b]",), True),
        ('RUN ["a", 1]', ('["a", 1]',), True),
        ("RUN [ -e x ]", ("[ -e x ]",), True),
    ],
)
def test_run_is_in_json_form_only_when_it_is_json(text: str, argv: tuple[str, ...], shell: bool) -> None:
    found = run(text)
    assert (found.argv, found.shell) == (argv, shell)


def test_run_has_flags() -> None:
    found = run(
        "RUN --mount=type=cache,target=/c,sharing=locked"
        " --mount=dst=/x,src=y,rw --network=none --security=sandbox a --b"
    )
    assert [(mount.kind, dict(mount.options)) for mount in found.mounts] == [
        ("cache", {"target": "/c", "sharing": "locked"}),
        ("bind", {"target": "/x", "source": "y", "readonly": "false"}),
    ]
    assert (found.network, found.argv) == ("none", ("a --b",))


def test_copy_has_flags_and_both_forms() -> None:
    found = copied('COPY --from=b --chown=1:2 --chmod=644 --link --exclude=a --exclude=b ["x y", "/z"]')
    assert (found.stage, found.chown, found.chmod, found.exclude) == ("b", "1:2", "644", ("a", "b"))
    assert (found.sources, found.destination) == (("x y",), "/z")
    assert copied("ADD a b c/").sources == ("a", "b")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('ENV A=1 B="x y" C=a\\ b', (("A", "1"), ("B", '"x y"'), ("C", "a\\ b"))),
        ("ENV A the rest  of it", (("A", "the rest  of it"),)),
        ("ENV A=", (("A", ""),)),
        ("ARG A B=c", (("A", None), ("B", "c"))),
        ('LABEL "a b"=c', (('"a b"', "c"),)),
    ],
)
def test_names_have_values(text: str, pairs: tuple[tuple[str, str | None], ...]) -> None:
    found = one(text)
    assert isinstance(found, Pairs)
    assert found.pairs == pairs


def test_settings_are_typed() -> None:
    assert one("WORKDIR /a b") == Value(line=1, end=1, source="WORKDIR /a b", keyword="WORKDIR", value="/a b")
    assert one('VOLUME ["/a b"]') == Words(line=1, end=1, source='VOLUME ["/a b"]', keyword="VOLUME", words=("/a b",))
    assert one("expose 80 81") == Words(line=1, end=1, source="EXPOSE 80 81", keyword="EXPOSE", words=("80", "81"))
    assert one("CMD a b") == Command(line=1, end=1, source="CMD a b", keyword="CMD", argv=("a b",), shell=True)
    assert one("FROM --platform=p a:1 as B") == From(
        line=1, end=1, source="FROM --platform=p a:1 as B", image="a:1", name="b", platform="p"
    )
    health = one("HEALTHCHECK --interval=5s --retries=3 CMD x")
    assert isinstance(health, Healthcheck)
    assert (health.test, dict(health.times), health.retries) == (("CMD-SHELL", "x"), {"interval": "5s"}, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("MAKE it", "MAKE is no instruction of a Dockerfile"),
        ("FROM", "FROM needs an image"),
        ("FROM a b", "FROM takes an image, or an image, AS and a name"),
        ("FROM a AS 1b", "'1b' cannot name a stage: a letter, then letters, digits, '-', '_' and '.'"),
        ("RUN", "RUN needs a command"),
        ("COPY a", "COPY needs at least a source and a destination"),
        ("COPY --colour=x a b", "COPY has no flag --colour"),
        ("COPY --from=a --from=b c d", "COPY has the flag --from more than once"),
        ("RUN --mount=type=what,target=/x a", "--mount of RUN has no type 'what'"),
        ("ENV A", "ENV A has no value: write ENV A=value"),
        ("ENV A=1 B", "ENV has 'B' where a name=value is due; put quotes around the value before"),
        ("ENV =1", "ENV has a value without a name"),
        ("SHELL sh -c", 'SHELL takes a JSON array, as in SHELL ["/bin/bash", "-c"]'),
        ("HEALTHCHECK what", "HEALTHCHECK takes NONE, or CMD and a command"),
        ("HEALTHCHECK --retries=x NONE", "--retries of HEALTHCHECK is a number, not 'x'"),
        ("ONBUILD FROM a", "FROM cannot be a trigger of ONBUILD"),
        ("# escape=x\nRUN a", "the escape character 'x' is neither a backslash nor a backtick"),
        (
            "# syntax=example/other\nRUN a",
            "# syntax=example/other is another language than that of Dockerfiles",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, problem: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.problem) == (1, problem)


def test_only_what_the_target_needs_is_needed() -> None:
    found = stages(
        "FROM a AS one\nFROM b AS two\nFROM c AS three\nCOPY --from=one x y\n"
        "FROM three\nRUN --mount=from=d,target=/d x\n"
    )
    assert found.needed == (0, 2, 3)
    assert found.references == ("a", "c", "d")


def test_references_are_expanded_by_the_arguments_before_the_first_stage() -> None:
    text = "ARG V=1\nARG W=${V}-x\nFROM a:$W AS b\nFROM b\nARG V\nCOPY --from=${V}/c d e\n"
    assert stages(text).references == ("a:1-x", "1/c")
    assert stages(text, V="2").references == ("a:2-x", "2/c")


def test_scratch_and_stages_are_no_references() -> None:
    assert stages("FROM scratch AS a\nFROM a\nCOPY --from=0 x y\nCOPY --from=A x y\n").references == ()


def test_the_first_stage_may_stand_on_what_is_there() -> None:
    found = read("FROM base\nFROM other\nCOPY --from=0 a b\n", build_args={}, platform=PLATFORM, on_parent=True)
    assert found.references == ("other",)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("RUN a\nFROM b", 1, "RUN stands before the first FROM"),
        ("ARG A=1", 1, "there is no FROM"),
        ("FROM a\nFROM $NONE", 2, "FROM $NONE is empty once its variables are replaced"),
    ],
)
def test_stages_that_cannot_be_are_said(text: str, line: int, problem: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        stages(text)
    assert (caught.value.line, caught.value.problem) == (line, problem)


def test_another_platform_than_the_engines_is_said() -> None:
    stages("FROM --platform=linux/x86_64 a").check_platform(PLATFORM)
    stages("FROM --platform=$BUILDPLATFORM a").check_platform(PLATFORM)
    with pytest.raises(DockerfileError) as caught:
        stages("FROM --platform=linux/arm64 a").check_platform(PLATFORM)
    assert caught.value.problem == "FROM asks for the platform linux/arm64, and this engine builds for linux/amd64"


@pytest.mark.parametrize(
    ("text", "argv", "program"),
    [
        ("RUN a", ("sh", "-c", "a"), ""),
        ('RUN ["a"]', ("a",), ""),
        ("RUN <<E\na\nE\n", ("sh", "-c", "a\n"), ""),
        ("RUN <<-E\n\ta\nE\n", ("sh", "-c", "a\n"), ""),
        ("RUN <<E\n#!/x\ny\nE\n", (), "#!/x\ny\n"),
        ("RUN cat <<E\na\nE\n", ("sh", "-c", "cat <<E\na\nE"), ""),
    ],
)
def test_run_executes_a_command_or_a_program(text: str, argv: tuple[str, ...], program: str) -> None:
    found = executed(run(text), ("sh", "-c"))
    assert (found.argv, found.program) == (argv, program)
