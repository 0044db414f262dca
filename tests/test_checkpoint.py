"""Checkpoints as files and folders: what is saved comes back, whatever happens in between."""

import dataclasses
import errno
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import kernelexp
from kernelexp import checkpoint
from kernelexp.checkpoint import CheckpointConfig, Run
from kernelexp.checkpoint import file as checkpoint_file
from kernelexp.checkpoint.folder import Folder
from kernelexp.checkpoint.header import Origin
from kernelexp.engine import SOLVERS, EpochRecord, StopRule

CPU = torch.device("cpu")


def by_columns(*shape, dtype=torch.float32):
    return torch.randn(shape[::-1]).to(dtype).mT


TENSORS = {
    "rows": torch.randn(5, 3),
    "columns": by_columns(7, 3, dtype=torch.float64),
    "one column": torch.randn(6, 1).as_strided((6, 1), (1, 6)),
    "part": torch.randn(8, 8)[2:5, 1:4],
    "one value for all": torch.tensor([2.5]).expand(4, 2),
    "nothing": torch.zeros(0, 4, dtype=torch.float64),
    "scalar": torch.tensor(-0.0),
    "not numbers": torch.tensor([float("nan"), float("inf"), 5e-324]).double(),
    "bools": torch.tensor([True, False, True]),
    "bytes": torch.arange(256, dtype=torch.uint8),
    "counts": torch.tensor([2**62, -1]),
    "last rows": torch.arange(12.0).view(4, 3)[2:],
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_to_the_bit_and_as_it_lay(tmp_path, name):
    tensor = TENSORS[name]
    checkpoint_file.write(tmp_path / "a", {"other": torch.ones(3), name: tensor}, {"x": [1, None]})
    tensors, content = checkpoint_file.read(tmp_path / "a")
    back = tensors[name]
    assert content == {"x": [1, None]}
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert back.contiguous().view(-1).view(torch.uint8).tolist() == (
        tensor.contiguous().view(-1).view(torch.uint8).tolist()
    )
    if name not in ("part", "one value for all", "nothing"):
        assert back.stride() == tensor.stride()
    assert back.data_ptr() % 64 == 0 or back.numel() == 0
    assert os.listdir(tmp_path) == ["a"]


def test_numbers_come_back_to_the_last_digit(tmp_path):
    content = {"a": 0.1 + 0.2, "b": float("inf"), "c": 2**70, "d": "é", "e": {"f": [1e-320]}}
    checkpoint_file.write(tmp_path / "a", {}, content)
    assert checkpoint_file.read(tmp_path / "a") == ({}, content)
    assert checkpoint_file.read_content(tmp_path / "a") == content


def test_the_file_is_safetensors(tmp_path):
    checkpoint_file.write(tmp_path / "a", {"w": torch.ones(2, 3)}, {})
    assert load_file(tmp_path / "a")["w"].tolist() == [1.0] * 6


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign"])
def test_a_broken_file_is_known(tmp_path, damage):
    path = tmp_path / "a"
    checkpoint_file.write(path, {"w": torch.ones(1000)}, {})
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "changed": whole[:-100] + bytes(100),
            "empty": b"",
            "foreign": b"\x08" + bytes(7) + b'{"a": 1}',
        }[damage]
    )
    with pytest.raises(checkpoint_file.BrokenCheckpoint):
        checkpoint_file.read(path)


SOLVER = SOLVERS["eigenpro2"](epochs=10)


def run_of(config="c", solver=SOLVER, files="f", points="p", store="s", dtype=torch.float32):
    return Run(config, "family", files, lambda: points, solver, dtype, CPU, store)


def saved(value):
    return SimpleNamespace(tensors={"w": torch.full((4,), float(value))}, numbers={"at": value})


def record(epoch, train_mse=0.5):
    return EpochRecord(epoch, train_mse, 0.1, 1.0, 60.0)


@pytest.fixture
def settings(tmp_path):
    return CheckpointConfig(minutes=0, folder=str(tmp_path / "checkpoints"))


@pytest.fixture(autouse=True)
def _committed(monkeypatch):
    """Of code with changes a checkpoint that goes on says so: see below."""
    tags = {"kernelexp.version": kernelexp.__version__, "git.commit": "b" * 40}
    for module in ("commit", "checkpoint.header"):
        monkeypatch.setattr(f"kernelexp.{module}.code_tags", lambda: tags)


class Killed(BaseException):
    pass


@contextmanager
def trained(settings, rounds, run=None, resume=True, killed=True, run_id="r1", epochs=True):
    """A run that does some rounds, each an epoch, and then is killed or ends well."""
    run = run or run_of()
    try:
        with checkpoint.checkpoints(settings, run, resume) as own:
            own.recorded_in(SimpleNamespace(run_id=run_id))
            own.begin("p")
            for value in rounds:
                own.after_round(lambda value=value: saved(value))
                if epochs:
                    own.epoch(record(value), {"epoch_train_mse": 0.5})
            yield own
            own.ended(saved(99), "epochs")
            if killed:
                raise Killed
    except Killed:
        pass


def train(*arguments, **options):
    with trained(*arguments, **options) as own:
        return own


def files(settings, config="c"):
    folder = os.path.join(settings.folder, config)
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def test_the_last_two_are_kept_while_a_run_lasts(settings):
    with trained(settings, range(1, 6)) as own:
        assert files(settings) == ["4.safetensors", "5.safetensors", "held"]
        own.after_round(lambda: saved(6))
        assert files(settings) == ["5.safetensors", "6.safetensors", "held"]


def test_nothing_stays_of_a_run_that_ends_well(settings):
    train(settings, [1, 2], killed=False)
    assert os.listdir(settings.folder) == []


def test_a_killed_run_goes_on_where_it_stood(settings):
    train(settings, [1, 2])
    with trained(settings, [3], run_id="r1") as own:
        assert own.start.numbers == {"at": 2}
        assert own.start.tensors["w"].tolist() == [2.0] * 4
        assert (own.former_run, own.resumed, own.longer) == ("r1", 1, False)
        # The second was saved before its metrics were known.
        assert [epoch.record.epoch for epoch in own.epochs] == [1, 3]
    with trained(settings, []) as own:
        assert own.start.numbers == {"at": 3}
        assert own.resumed == 2
        assert own.start.header.seconds == 60


def test_a_run_that_starts_anew_leaves_none_of_the_old(settings):
    train(settings, [1, 2, 3])
    with trained(settings, [], resume=False) as own:
        assert own.start is None
        assert "3.safetensors" in files(settings)  # it may be wanted, until there is a new one
        own.after_round(lambda: saved(7))
        assert files(settings) == ["1.safetensors", "held"]
    assert train(settings, []).start.numbers == {"at": 7}
    train(settings, [], resume=False, killed=False)
    assert files(settings) == []


def test_a_run_of_another_store_is_another(settings):
    train(settings, [1])
    own = train(settings, [], run=run_of(store="elsewhere"))
    assert own.start is not None
    assert own.former_run is None


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1]])
def test_a_broken_one_is_passed_over(settings, damage):
    train(settings, [1, 2])
    newest = os.path.join(settings.folder, "c", "2.safetensors")
    with open(newest, "r+b") as file:
        whole = file.read()
        file.seek(0)
        file.write(damage(whole))
        file.truncate()
    with pytest.warns(RuntimeWarning, match="2.safetensors: passed over, it is broken"):
        own = train(settings, [])
    assert own.start.numbers == {"at": 1}


def test_two_at_once(settings):
    """The second neither goes on from what the first has written, nor takes it away."""
    with trained(settings, [1, 2]) as first:
        with pytest.warns(RuntimeWarning, match=f"process .* {os.getpid()} is at the same run"):
            second = train(settings, [5], killed=False)
        assert second.start is None
        first.after_round(lambda: saved(3))
        assert files(settings) == ["2.safetensors", "3.safetensors", "held"]
    assert train(settings, []).start.numbers == {"at": 3}


def test_a_lock_ends_with_its_process(settings):
    """Also where that is killed: what it has written is taken up, its unfinished file is not."""
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from kernelexp.checkpoint.folder import Folder\n"
        "folder = Folder(Path(sys.argv[1]))\nfolder.hold()\n"
        "(folder.path / 'writing').mkdir()\n(folder.path / 'writing' / '1.safetensors').touch()\n"
        "print(folder.holder(), flush=True)\nsys.stdin.read()\n"
    )
    place = os.path.join(settings.folder, "c")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", code, place], **pipes, text=True)
    try:
        assert child.stdout.readline().split()[1] == str(child.pid)
        folder = Folder(Path(place))
        assert not folder.hold()
    finally:
        child.kill()
        child.communicate()
    assert folder.hold()
    assert files(settings) == ["held"]
    folder.release()
    assert files(settings) == []


OTHER = {
    "code": {"kernelexp.version": "0.0.1"},
    "device": "another machine",
    "threads": 99,
    "pytorch": "1.0",
    "numpy": "1.0",
}


@pytest.mark.parametrize("name", OTHER)
def test_what_changes_digits_is_refused_in_one_line(settings, monkeypatch, name):
    train(settings, [1])
    here = Origin.here

    def other(*arguments):
        return dataclasses.replace(here(*arguments), **{name: OTHER[name]})

    monkeypatch.setattr(Origin, "here", other)
    with pytest.raises(
        ValueError, match=r"^resume=true: the checkpoint of this run .* was made with "
    ) as no:
        train(settings, [])
    assert "resume=false starts this run again" in str(no.value)
    assert "\n" not in str(no.value)
    assert train(settings, [], resume=False).start is None
    monkeypatch.setattr(Origin, "here", here)
    assert train(settings, []).start is not None  # still there


def test_another_commit_of_a_version_is_told(settings, monkeypatch):
    train(settings, [1])
    tags = {"kernelexp.version": kernelexp.__version__, "git.commit": "a" * 40}
    monkeypatch.setattr("kernelexp.commit.code_tags", lambda: tags)
    with pytest.warns(RuntimeWarning, match="made by commit b*, this is commit aaaaaaaaaa$"):
        assert train(settings, []).start is not None


def test_other_data_are_refused(settings):
    train(settings, [1])
    with pytest.raises(ValueError, match="was made with other data"):
        train(settings, [], run=run_of(files="changed", points="q"))
    assert train(settings, [], run=run_of(files="touched", points="p")).start is not None
    # Not here yet: compared once they are.
    with pytest.raises(ValueError, match="was made with other data"):  # noqa: SIM117
        with checkpoint.checkpoints(settings, run_of(files="none", points=None), True) as own:
            own.begin("q")


def test_data_that_can_not_be_read_are_not_asked_for_where_the_files_are_the_same(settings):
    train(settings, [1])
    run = dataclasses.replace(run_of(), points=lambda: 1 / 0)
    assert train(settings, [], run=run).start is not None


@pytest.fixture
def kept(settings):
    """A run of three epochs that ended well, and its settings."""
    keeping = dataclasses.replace(settings, keep=True)
    short = run_of("short", SOLVERS["eigenpro2"](epochs=3))
    train(keeping, [1, 2, 3], run=short, killed=False)
    return keeping


def test_more_epochs_go_on_from_what_was_kept(kept):
    assert files(kept, "short") == ["held", "kept.safetensors"]
    own = train(kept, [], run_id="r2")
    assert own.start.numbers == {"at": 99}
    assert (own.longer, own.former_run, own.resumed) == (True, "r1", 0)
    assert [epoch.record.epoch for epoch in own.epochs] == [1, 2, 3]


def test_the_longer_run_goes_on_with_itself_once_it_was_killed(kept):
    train(kept, [4, 5], run_id="r2")
    own = train(kept, [])
    assert own.start.numbers == {"at": 5}
    assert (own.longer, own.former_run, own.resumed) == (False, "r2", 1)


def test_the_longest_is_taken(kept):
    train(kept, [4], run=run_of("longer", SOLVERS["eigenpro2"](epochs=4)), killed=False)
    assert len(train(kept, []).epochs) == 4


@pytest.mark.parametrize(
    "solver",
    [
        {"epochs": 3},  # the same
        {"epochs": 2},
        {"epochs": 9, "stop": StopRule(train_error=0.2)},  # met before
        {"epochs": 9, "stop": StopRule(seconds=100)},
    ],
)
def test_a_run_that_would_have_ended_before_starts_anew(kept, solver):
    assert train(kept, [], run=run_of(solver=SOLVERS["eigenpro2"](**solver))).start is None


def test_the_end_of_other_code_or_data_is_passed_over(kept):
    with pytest.warns(RuntimeWarning, match="does not go on from it, it was made with other data"):
        assert train(kept, [], run=run_of(files="g", points="q")).start is None


def test_a_kept_one_stays_until_there_is_another(kept):
    short = run_of("short", SOLVERS["eigenpro2"](epochs=3))
    train(dataclasses.replace(kept, keep=False), [1], run=short, killed=False)
    assert "kept.safetensors" in files(kept, "short")


def test_it_is_written_when_it_is_time(settings, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("kernelexp.checkpoint.run.time", SimpleNamespace(monotonic=lambda: now[0]))
    timed = dataclasses.replace(settings, minutes=1)
    with trained(timed, []) as own:
        for seconds, number in ((59, 0), (60, 1), (119, 1), (120, 2)):
            now[0] = 1000 + seconds
            own.after_round(lambda: saved(1))
            assert len(files(settings)) == (1 + number if number else 0)
        monkeypatch.setattr(own.folder, "add", lambda _: now.__setitem__(0, now[0] + 5))
        own.write(saved(1))  # which takes five seconds: the next in 500
        written = []
        monkeypatch.setattr(own.folder, "add", written.append)
        now[0] += 499
        own.after_round(lambda: saved(1))
        assert not written
        now[0] += 1
        own.after_round(lambda: saved(1))
        assert written


def test_none_is_written_where_none_is_wanted(settings):
    with trained(dataclasses.replace(settings, minutes=None), [1, 2]) as own:
        own.write(saved(3))
    assert not os.path.exists(settings.folder)


def limited(settings, size):
    """Checkpoints in a process whose files may have so many bytes: what it said, and what it left."""
    code = (
        "import resource, sys, torch\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from types import SimpleNamespace\n"
        "import test_checkpoint as t\n"
        "from kernelexp.checkpoint import CheckpointConfig, checkpoints\n"
        "settings = CheckpointConfig(minutes=0, folder=sys.argv[1])\n"
        "with checkpoints(settings, t.run_of(), True) as own:\n"
        "    own.begin('p')\n"
        "    own.after_round(lambda: t.saved(1))\n"
        "    size = int(sys.argv[2])\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "    big = SimpleNamespace(tensors={'w': torch.zeros(100_000)}, numbers={})\n"
        "    for _ in range(3):\n"
        "        own.after_round(lambda: big)\n"
        "    print(sorted(p.name for p in own.folder.path.iterdir()))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, resource.RLIM_INFINITY))\n"
        "    own.after_round(lambda: t.saved(2))\n"
        "    print(sorted(p.name for p in own.folder.path.iterdir()))\n"
    )
    command = [sys.executable, "-c", code, settings.folder, str(size), os.path.dirname(__file__)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_full_disk_is_one_warning(settings, size):
    done = limited(settings, size)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['1.safetensors', 'held']",
        "['1.safetensors', '2.safetensors', 'held']",
    ]
    assert done.stderr.count("Warning: ") == 1
    assert "File too large" in done.stderr


def test_a_folder_that_can_not_be_is_one_warning(settings, tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.warns(RuntimeWarning) as told:
        train(settings, [1, 2], killed=False)
    assert len(told) == 1
    assert "leaves no checkpoint" in str(told[0].message)


def test_settings_are_checked():
    assert CheckpointConfig(minutes=None).minutes is None
    with pytest.raises(ValueError, match=r"minutes=-1: must be a number >= 0, or null"):
        CheckpointConfig(minutes=-1)
    with pytest.raises(ValueError, match=r"folder=: must be"):
        CheckpointConfig(folder="")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_syncs_no_folders_has_them_too(tmp_path, monkeypatch, number):
    original = checkpoint_file._sync

    def sync(path):
        if path.is_dir():
            raise OSError(number, os.strerror(number))
        original(path)

    monkeypatch.setattr(checkpoint_file, "_sync", sync)
    checkpoint_file.write(tmp_path / "1.safetensors", TENSORS, {})
    assert set(checkpoint_file.read(tmp_path / "1.safetensors")[0]) == set(TENSORS)
