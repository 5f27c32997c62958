"""What the kernel sees of reading mutants: which files are opened, by Python and by C++ code alike."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
STRACE = shutil.which("strace")

# Asking for a file that is not there marks the log: what stands between two marks is the reader's.
READ_MUTANTS = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fuzzer.targets import TARGETS
from fuzzer.worker import mutant
from vae_runtime.errors import VaeError
target, folder, count = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
reader = TARGETS[target].prepare()
def read(files):
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    os.path.exists("/mark/begin")
    try:
        reader.read(folder)
        return True
    except VaeError:
        return False
    finally:
        os.path.exists("/mark/end")
for files in reader.seeds.values():
    read(files)
os.path.exists("/mark/ready")  # all is imported
through = sum(read(files) for files in reader.seeds.values())
through += sum(read(mutant(target, reader, 0, index)) for index in range(count))
print(through)
"""
MARK = re.compile(r'"/mark/(\w+)"')
# Python's own files, a quota of the container, and the processors at hand.
HARMLESS = (
    sys.prefix, sys.base_prefix, "/sys/fs/cgroup/", "/sys/devices/system/cpu", "/proc/self/", "/proc/meminfo",
    "/proc/cpuinfo",
)  # fmt: skip
OPEN = re.compile(r'open(?:at2?)?\((?:[^,"]*, )?"([^"]*)"')


def opened_between_marks(log: str) -> list[str]:
    """Return the paths of open calls while a mutant was read, once everything is imported.

    Folders are left out: they are opened to list them, or to reach the mutant's own files.
    """
    paths, ready, reading = [], False, False
    for line in log.splitlines():
        mark = MARK.search(line)
        if mark:
            ready |= mark[1] == "ready"
            reading = mark[1] == "begin"
        elif ready and reading and "O_DIRECTORY" not in line and (call := OPEN.search(line)):
            paths.append(call[1])
    return paths


@pytest.mark.skipif(STRACE is None, reason="needs strace")
@pytest.mark.parametrize("target", ["scan", "bundle"])
def test_the_kernel_sees_no_file_opened_but_the_mutants_own(target: str, tmp_path: Path) -> None:
    folder, log = tmp_path / "mutant", tmp_path / "log"
    folder.mkdir()
    (folder.parent / "canary").write_text("secret")
    reading = [sys.executable, "-c", READ_MUTANTS, HERE, target, folder, "60"]
    ended = subprocess.run(
        [STRACE or "", "-f", "-qq", "-e", "trace=file", "-o", log, *reading],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "ptrace" in ended.stderr:
        pytest.skip("strace may not trace here")
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 0
    opened = opened_between_marks(log.read_text())
    names = {"graph.onnx", "SHA256SUMS", "encoder.onnx", "decoder.onnx"}
    own = names | {str(folder / name) for name in names}
    assert len(opened) > 60
    assert [path for path in opened if path not in own and not path.startswith(HARMLESS)] == []


def test_an_open_call_between_marks_is_seen_in_whatever_form() -> None:
    log = """
1 openat(AT_FDCWD, "/before", O_RDONLY) = 3
1 newfstatat(AT_FDCWD, "/mark/ready", 0x7ffd, 0) = -1 ENOENT
1 openat(AT_FDCWD, "/between", O_RDONLY) = 3
1 stat("/mark/begin", 0x7ffd) = -1 ENOENT
1 openat(AT_FDCWD, "/one", O_RDONLY|O_CLOEXEC) = 3
2 openat(7, "two", O_RDONLY) = 3
1 open("/three", O_RDONLY) = 3
1 openat2(AT_FDCWD, "/four", {flags=O_RDONLY}, 24) = 3
1 openat(AT_FDCWD, "/folder", O_RDONLY|O_DIRECTORY) = 3
1 newfstatat(AT_FDCWD, "/not/opened", 0x7ffd, 0) = 0
1 newfstatat(AT_FDCWD, "/mark/end", 0x7ffd, 0) = -1 ENOENT
1 openat(AT_FDCWD, "/after", O_RDONLY) = 3
"""
    assert opened_between_marks(log) == ["/one", "two", "/three", "/four"]
