"""Where `Model.save`, `to_json` and `evaluate(checkpoint=...)` write, and what they leave."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from lumina_jax import HardwareProfile, _files, nat

MODEL = exporter.export(lambda x: x, jnp.zeros(2, jnp.float32))
RESULT = nat.Evaluation(axes={}, seeds=(0,), metrics={"metric": np.array([1.0])})


def checkpoint(path: Path) -> nat.Evaluation:
    return nat.evaluate(lambda params, key: params, 1.0, {}, 1, checkpoint=path, progress=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "Model.save": MODEL.save,
    "Evaluation.to_json": RESULT.to_json,
    "evaluate": checkpoint,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))


def written(write: Callable[[Path], object], folder: Path) -> bytes:
    """What it puts into a plain file."""
    write(folder / "plain")
    return (folder / "plain").read_bytes()


@writers
def test_links_stay_and_lead_to_the_file(write, tmp_path: Path) -> None:
    want = written(write, tmp_path)
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    for name, to in {
        "absolute": target,
        "relative": Path("there/target"),
        "of-a-link": tmp_path / "relative",
        "there/up": Path("../there/target"),
    }.items():
        target.unlink(missing_ok=True)  # a link to nothing says where the file shall be
        link = tmp_path / name
        link.symlink_to(to)
        write(link)
        assert link.is_symlink()
        assert link.readlink() == to
        assert target.read_bytes() == want
    assert os.listdir(tmp_path / "there") in (["up", "target"], ["target", "up"])


@writers
def test_a_link_in_a_circle_is_an_error(write, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        write(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@writers
def test_pipes_are_written_to(write, tmp_path: Path) -> None:
    want = written(write, tmp_path)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join()
    assert got == [want]
    assert pipe.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["pipe", "plain"]


@writers
def test_devices_stay(write, tmp_path: Path) -> None:
    node = tmp_path / "null"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no right to make a device")
    # A file system may open no devices; none has been replaced all the same.
    with suppress(PermissionError):
        write(node)
    assert node.is_char_device()
    assert os.listdir(tmp_path) == ["null"]


def test_a_pipe_gets_a_line_for_every_call(tmp_path: Path) -> None:
    read, write = os.pipe()
    grid = {"noise": [0.0, 1.0]}
    nat.evaluate(
        lambda params, key, noise: noise,
        1.0,
        grid,
        1,
        batch=1,
        checkpoint=f"/dev/fd/{write}",
        progress=False,
    )
    os.close(write)
    with open(read, encoding="utf-8") as lines:
        found = [json.loads(line)["metrics"]["metric"] for line in lines]
    assert found == [[[0.0], None], [[0.0], [1.0]]]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files are in /proc")
def test_a_file_without_a_name_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("w+b") as file:
        (tmp_path / "gone").unlink()
        MODEL.save(f"/proc/self/fd/{file.fileno()}")
        assert file.read() == MODEL.to_bytes()
    assert os.listdir(tmp_path) == []


@writers
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_the_mode_of_an_older_file_is_kept(write, mode: int, tmp_path: Path) -> None:
    want = written(write, tmp_path)
    path = tmp_path / "plain"
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == want


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_an_older_file_is_kept(tmp_path: Path) -> None:
    path = MODEL.save(tmp_path / "m.lmn")
    os.chown(path, 12, 34)
    path.chmod(0o4750)
    MODEL.save(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12, 34, 0o4750)


def test_a_profile_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    HardwareProfile(name="old").save(link)
    path.chmod(0o600)
    HardwareProfile(name="new").save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert HardwareProfile.load(path).name == "new"
    assert sorted(os.listdir(tmp_path)) == ["chip.toml", "link.toml"]


@writers
def test_a_new_file_has_the_mode_of_the_umask(write, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_temporary_file_that_is_there_is_not_touched(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    victim = tmp_path / "victim"
    victim.write_bytes(b"old")
    trap = tmp_path / f".lumina-{'0' * 16}.tmp"
    trap.symlink_to(victim)
    with pytest.raises(exporter.SaveError, match="File exists"):
        MODEL.save(tmp_path / "m.lmn")
    assert victim.read_bytes() == b"old"
    assert trap.is_symlink()
    assert not (tmp_path / "m.lmn").exists()


@writers
def test_any_name_of_a_file_works(write, tmp_path: Path) -> None:
    want = written(write, tmp_path)
    for name in ("n" * 255, "-", "-x", "a\nb", "a=b", "Žlutý 模型", os.fsdecode(b"caf\xe9")):
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == want
    with pytest.raises(OSError, match="File name too long"):
        write(tmp_path / ("n" * 256))
    assert len(os.listdir(tmp_path)) == 8


def test_paths_are_also_bytes(tmp_path: Path) -> None:
    got = MODEL.save(os.fsencode(tmp_path / "m.lmn"))  # type: ignore[arg-type]
    assert got == tmp_path / "m.lmn"
    assert exporter.load(got).to_bytes() == MODEL.to_bytes()


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("a\0b", ValueError, r"must have no NUL character, got 'a\\x00b'"),
        ("\ud800", ValueError, r"has characters that the file system cannot encode, got '\\ud800'"),
        ("", ValueError, "is empty, expected the name of a file"),
        (3, TypeError, "must be a str, bytes or an os.PathLike, got int"),
    ],
)
def test_what_no_file_can_be_called(path, kind: type[Exception], text: str) -> None:
    for name, call in {
        "Model.save: `path`": MODEL.save,
        "load: `path`": exporter.load,
        "HardwareProfile.save: `path`": HardwareProfile().save,
        "HardwareProfile.load: `path`": HardwareProfile.load,
        "Evaluation.to_json: `path`": RESULT.to_json,
        "Evaluation.from_json: `path`": nat.Evaluation.from_json,
        "evaluate: `checkpoint`": checkpoint,
    }.items():
        with pytest.raises(kind, match=f"^{name} {text}"):
            call(path)


@writers
def test_a_directory_is_no_file(write, tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=r"it is a directory; add a file name|Is a directory"
    ) as error:
        write(tmp_path)
    assert error.value.errno == errno.EISDIR
    assert os.listdir(tmp_path) == []


def test_a_reader_that_leaves_is_an_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    path = f"/dev/fd/{write}"
    with pytest.raises(exporter.SaveError, match=rf"cannot save `{path}`: Broken pipe"):
        MODEL.save(path)
    os.close(write)


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"new"
        assert len(os.listdir(tmp_path)) == 2
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        _files.write(path, chunks())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


# Only the standard library, so that the module runs by itself.
_WRITER = """
import importlib.util, pathlib, signal, sys, time

spec = importlib.util.spec_from_file_location("_files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
# Whoever started the tests may have them ignore either.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[3] == "ignored" else signal.SIG_DFL)

def chunks():
    yield b"new"
    print("writing", flush=True)
    time.sleep(0.2 if sys.argv[3] == "ignored" else 60)

files.write(pathlib.Path(sys.argv[2]), chunks())
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_temporary_file(number: signal.Signals, tmp_path: Path) -> None:
    status = _signaled(tmp_path, number, "default")
    assert status == -number
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    assert _signaled(tmp_path, signal.SIGHUP, "ignored") == 0
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def _signaled(folder: Path, number: signal.Signals, how: str) -> int:
    """The exit status of a program that gets a signal while it writes."""
    (folder / "file").write_bytes(b"old")
    command = [sys.executable, "-c", _WRITER, _files.__file__, folder / "file", how]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"writing\n"
        assert len(os.listdir(folder)) == 2
        program.send_signal(number)
        return program.wait(timeout=30)
