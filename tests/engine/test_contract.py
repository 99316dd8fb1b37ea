"""What every engine promises of layers. `bench` runs over all adapters, `box` over those that run containers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_imagebuild.engines.entries import FileEntry
from pytest_imagebuild.engines.work import CommandFailed, ConfigChange, Work
from pytest_imagebuild.errors import EngineError

from .conftest import BASE, Bench, new_key


def test_capabilities_name_the_engine_and_its_platform(bench: Bench) -> None:
    found = bench.engine.capabilities()
    assert bench.engine.name == found.engine
    assert found.platform.startswith("linux/")
    assert found.identity
    assert found.version


def test_a_pin_is_a_digest_and_stays_the_same(bench: Bench) -> None:
    pin = bench.engine.pin_base(BASE, print)
    assert pin.source == "registry"
    assert len(pin.digest.removeprefix("sha256:")) == 64
    assert bench.engine.pin_base(BASE, print) == pin


def test_a_built_layer_is_found_by_its_key_with_all_its_labels(bench: Bench) -> None:
    labels = bench.labels(parent="p1", generation="g1", step='run_commands("a\nb")', inputs={"a": "1", "b": "ü"})
    layer = bench.engine.build(bench.base, Work(commands=("true",)), labels, print)
    assert layer.labels == labels
    assert bench.engine.find(labels.key) == layer
    assert bench.engine.layers()[labels.key] == layer
    assert layer.size >= bench.base.size
    assert layer.created == pytest.approx(bench.engine.layers()[labels.key].created)


def test_there_is_no_layer_of_an_unknown_key(bench: Bench) -> None:
    key = new_key()
    assert bench.engine.find(key) is None
    assert key not in bench.engine.layers()


def test_building_a_key_again_replaces_the_layer(bench: Bench) -> None:
    key = new_key()
    first = bench.build("true", key=key)
    second = bench.build("true", key=key, config=ConfigChange(environment=(("A", "2"),)))
    assert second.reference != first.reference
    assert bench.engine.find(key) == second
    assert bench.engine.layers()[key] == second


def test_a_failed_build_leaves_no_layer(bench: Bench) -> None:
    key = new_key()
    with pytest.raises(CommandFailed):
        bench.build("exit 3", key=key)
    assert bench.engine.find(key) is None
    assert key not in bench.engine.layers()


def test_a_failed_build_keeps_the_layer_that_was_there(bench: Bench) -> None:
    key = new_key()
    first = bench.build("true", key=key)
    with pytest.raises(CommandFailed):
        bench.build("exit 3", key=key)
    assert bench.engine.find(key) == first


def test_a_failure_tells_which_command_its_exit_code_and_the_end_of_the_output(bench: Bench) -> None:
    with pytest.raises(CommandFailed) as caught:
        bench.build("echo fine", "echo to stdout; echo to stderr >&2; exit 42", "echo never")
    assert caught.value.index == 1
    assert caught.value.exit_code == 42
    assert "to stdout" in caught.value.output
    assert "to stderr" in caught.value.output
    assert "never" not in caught.value.output


def test_the_output_of_a_build_comes_line_by_line(bench: Bench) -> None:
    bench.build("echo one; printf 'two\\nthree\\n'; echo four >&2")
    assert sorted(bench.lines) == ["four", "one", "three", "two"]


def test_run_returns_standard_output_only(bench: Bench) -> None:
    assert bench.run("echo wanted; echo noise >&2", "printf more") == "wanted\nmore"
    assert bench.lines == ["noise"]


def test_a_command_gets_the_environment_of_the_work(bench: Bench) -> None:
    environment = {"PLAIN": "a b", "HARD": 'it\'s $HOME "x" \\ `y`\nline two', "EMPTY": ""}
    shown = bench.run('printf "%s|" "$PLAIN" "$HARD" "$EMPTY"', environment=environment)
    assert shown == 'a b|it\'s $HOME "x" \\ `y`\nline two||'


def test_a_command_has_no_standard_input(bench: Bench) -> None:
    assert bench.run("cat; echo end") == "end\n"


def test_commands_stop_at_the_first_that_fails(bench: Bench) -> None:
    with pytest.raises(CommandFailed) as caught:
        bench.run("false", "echo never >&2")
    assert (caught.value.index, caught.value.exit_code) == (0, 1)
    assert bench.lines == []


def test_layers_of_a_namespace_are_apart_and_dropped_together(bench: Bench) -> None:
    key = new_key()
    cached = bench.build("true", key=key)
    lower = bench.build("true", key=key, namespace="Run-1")
    upper = bench.build("true", on=lower, namespace="Run-1")
    other = bench.build("true", namespace="run-2")
    assert bench.engine.layers("Run-1") == {key: lower, upper.labels.key: upper}
    assert bench.engine.find(key, "Run-1") == lower
    assert bench.engine.find(key) == cached
    bench.engine.drop("Run-1")
    assert bench.engine.layers("Run-1") == {}
    assert bench.engine.find(key, "Run-1") is None
    assert bench.engine.find(key) == cached
    assert other.labels.key in bench.engine.layers("run-2")
    bench.engine.drop("run-2")


def test_the_cache_is_not_dropped(bench: Bench) -> None:
    with pytest.raises(EngineError, match="the layers of the cache are not thrown away as a whole"):
        bench.engine.drop("")


def test_four_builds_run_at_once(bench: Bench) -> None:
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda number: bench.build(f"echo {number}"), range(4)))
    found = bench.engine.layers()
    assert [found[layer.labels.key] for layer in built] == built


def test_a_sweep_leaves_what_is_alive(bench: Bench) -> None:
    layer = bench.build("true", namespace="alive")
    bench.engine.sweep()
    assert bench.engine.sweep() == 0
    assert bench.engine.layers("alive") == {layer.labels.key: layer}
    bench.engine.drop("alive")


# From here on with containers.


def test_builds_at_once_take_the_time_of_one(box: Bench) -> None:
    meeting = threading.Barrier(4, timeout=60)

    def build(_: int) -> None:
        def met(line: str) -> None:
            if line == "here":
                meeting.wait()

        work = Work(commands=("echo here; sleep 0.2",))
        box.engine.build(box.base, work, box.labels(), met)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(build, range(4)))


def test_the_output_of_a_build_keeps_its_order(box: Bench) -> None:
    box.build("for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done; printf half; echo ' a line' >&2")
    expected = [f"{stream} {n}" for n in range(1, 10) for stream in ("out", "err")]
    assert box.lines == [*expected, "half a line"]


def test_a_layer_has_what_its_commands_and_those_below_wrote(box: Bench) -> None:
    lower = box.build("echo 1 > /one")
    upper = box.build("echo 2 > /two; rm /one; echo 3 > /three", on=lower)
    assert box.run("cat /two /three; test ! -e /one", on=upper) == "2\n3\n"
    assert box.run("cat /one; test ! -e /two", on=lower) == "1\n"


def test_a_run_leaves_the_layer_as_it_was(box: Bench) -> None:
    box.run("echo 1 > /changed")
    assert box.run("test ! -e /changed && echo good") == "good\n"


def test_files_are_there_with_their_modes_before_the_commands_run(box: Bench, tmp_path: Path) -> None:
    source = tmp_path / "big.bin"
    source.write_bytes(b"x" * 3_000_001)
    long = "/srv/" + "d" * 90 + "/" + "e" * 90 + "/ünï cödé"
    layer = box.build(
        "cat /srv/app/run.sh",
        files=(
            FileEntry(path="/srv/app/run.sh", mode=0o755, data=b"#!/bin/sh\necho hi\n"),
            FileEntry(path="/srv/app/secret", mode=0o600, data=b""),
            FileEntry(path="/srv/big.bin", mode=0o644, source=source),
            FileEntry(path=long, mode=0o644, data=b"long"),
            FileEntry(path="/srv/suid", mode=0o4755, data=b""),
        ),
    )
    assert box.lines == ["#!/bin/sh", "echo hi"]
    shown = box.run("/srv/app/run.sh; cd /srv; stat -c '%a %u:%g %s %n' app app/* big.bin suid; cat */*/*", on=layer)
    assert shown.splitlines() == [
        "hi",
        "755 0:0 4096 app",
        "755 0:0 18 app/run.sh",
        "600 0:0 0 app/secret",
        "644 0:0 3000001 big.bin",
        "4755 0:0 0 suid",
        "long",
    ]


def test_files_without_commands_make_a_layer(box: Bench) -> None:
    layer = box.build(files=(FileEntry(path="/a/b/c", mode=0o644, data=b"c"),))
    assert box.run("cat /a/b/c", on=layer) == "c"


def test_files_have_one_fixed_time_that_zip_archives_can_hold(box: Bench) -> None:
    layer = box.build(files=(FileEntry(path="/new/file", mode=0o644, data=b"c"),))
    assert box.run("stat -c %Y /new /new/file", on=layer) == "315619200\n315619200\n"


def test_folders_that_exist_keep_their_modes(box: Bench) -> None:
    lower = box.build("mkdir -p /data/private; chmod 700 /data/private; chown 5:6 /data/private")
    upper = box.build(on=lower, files=(FileEntry(path="/data/private/sub/file", mode=0o644, data=b"c"),))
    owner = box.run("stat -c %u:%g /data/private", on=lower).strip()
    # An engine may have root only.
    assert owner in ("5:6", "0:0")
    assert box.run("stat -c '%a %u:%g' /data/private /data/private/sub", on=upper) == f"700 {owner}\n755 0:0\n"
    assert box.run("stat -c %a /tmp", on=box.build(files=(FileEntry(path="/tmp/f", mode=0o644, data=b""),))) == "1777\n"


def test_files_go_through_a_link_to_a_folder(box: Bench) -> None:
    layer = box.build(files=(FileEntry(path="/bin/greet", mode=0o755, data=b"#!/bin/sh\necho hi\n"),))
    assert box.run("test -L /bin && /usr/bin/greet", on=layer) == "hi\n"


def test_configuration_changes_reach_containers(box: Bench) -> None:
    change = ConfigChange(
        environment=(("A", "b c"), ("QUOTED", 'it\'s "x" $HOME'), ("LINES", "1\n2"), ("EMPTY", "")), workdir="/place/in"
    )
    lower = box.build(config=change)
    upper = box.build(on=lower, config=ConfigChange(environment=(("A", "new"),), workdir="../out/./deep"))
    asked = 'printf "%s|" "$A" "$QUOTED" "$LINES" "${EMPTY-unset}"; pwd'
    assert box.run(asked, on=lower) == 'b c|it\'s "x" $HOME|1\n2||/place/in\n'
    assert box.run(asked, on=upper) == 'new|it\'s "x" $HOME|1\n2||/place/out/deep\n'


def test_the_environment_and_the_tools_of_the_work_are_gone_afterwards(box: Bench) -> None:
    layer = box.build(
        'test "$TOKEN" = hush && /opt/lent/bin/tool && cat /dev/shm/ca.crt /dev/shm/deep/raw | wc -c',
        environment={"TOKEN": "hush"},
        tools=(
            FileEntry(path="/opt/lent/bin/tool", mode=0o755, data=b"#!/bin/sh\necho tool\n"),
            FileEntry(path="/dev/shm/ca.crt", mode=0o644, data=b"certificate $x `y` \\\n" * 10),
            FileEntry(path="/dev/shm/deep/raw", mode=0o600, data=bytes(range(256))),
        ),
    )
    assert box.lines == ["tool", str(21 * 10 + 256)]
    assert box.run('ls -A /opt /dev/shm; echo "${TOKEN-unset}"', on=layer) == "/dev/shm:\n\n/opt:\nunset\n"


def test_a_tool_does_not_take_the_place_of_a_file(box: Bench) -> None:
    with pytest.raises(EngineError, match="the tool /etc/passwd cannot be lent to the step: the image has a file"):
        box.build("true", tools=(FileEntry(path="/etc/passwd", mode=0o644, data=b""),))


def test_a_variable_whose_name_no_shell_knows_is_refused(box: Bench) -> None:
    with pytest.raises(EngineError, match=r"the variable 'odd\.name' cannot be set for a step"):
        box.run("true", environment={"odd.name": "a b"})


def test_commands_run_as_root_whoever_the_image_names(box: Bench) -> None:
    assert box.run("id -u") == "0\n"


def test_a_process_that_a_command_left_running_does_not_hold_the_build(box: Bench) -> None:
    box.build("sleep 300 & echo started")
    assert box.lines == ["started"]


def test_a_command_without_network_reaches_nothing(box: Bench) -> None:
    assert box.run("grep -c : /proc/net/dev", network="none") == "1\n"


def test_progress_that_overwrites_itself_is_one_line_in_the_end(box: Bench) -> None:
    with pytest.raises(CommandFailed) as caught:
        box.build("printf '10%%\\r50%%\\r100%%\\n'; printf 'half\\r'; exit 1")
    assert caught.value.output.splitlines() == ["100%", "half"]


def test_a_flood_of_output_keeps_its_end(box: Bench) -> None:
    with pytest.raises(CommandFailed) as caught:
        box.build("i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; head -c 20000 /dev/zero; exit 9")
    assert len(caught.value.output) < 80_000
    assert "line 29999" in caught.value.output
    assert len(box.lines) > 30_000


def test_output_that_is_no_text_is_shown_all_the_same(box: Bench) -> None:
    box.build("printf '\\377\\376 caf\\303\\251\\n'")
    assert box.lines == ["�� café"]


def test_a_large_output_of_a_run_comes_whole(box: Bench) -> None:
    assert len(box.run("head -c 20000000 /dev/zero | tr '\\0' x")) == 20_000_000


def test_a_command_that_is_killed_tells_the_signal(box: Bench) -> None:
    with pytest.raises(CommandFailed) as caught:
        box.build("true", "kill -9 $$")
    assert (caught.value.index, caught.value.exit_code) == (1, 137)
