"""One figure of a report: whatever is wrong with it is a note, and nothing that was said before is lost."""

from dataclasses import replace

import pandas as pd
import pytest

from kernelexp.report import captions, figures
from kernelexp.report.figures import Figure
from kernelexp.report.making import Wanted, make
from kernelexp.report.options import Options


def runs(**columns):
    frame = pd.DataFrame(
        {"run": ["a" * 32, "b" * 32], "parent": None, "n": [500.0, None], **columns}
    )
    return frame.assign(
        settings=[{"n": 500}, {}],
        warning=None,
        commit=None,
        dirty=False,
        device_name="CPU",
        started=pd.Timestamp("2026-01-01"),
    )


def test_seconds_of_several_machines_are_no_comparison():
    assert captions.devices(runs()) == "CPU"
    both = captions.devices(runs().assign(device_name=["CPU, 2 threads", "GPU"]))
    assert both == "CPU, 2 threads; GPU (several machines, whose seconds do not compare)"


def test_beside_the_file_of_one_run_the_history_is_of_all(tmp_path, monkeypatch):
    class OneFile:
        def history(self, names, metrics):
            return pd.DataFrame({"run": list(names), "epoch": 1, "loss": [1.0, 2.0]})

        def file(self, run, path):
            return {"of": run}

    def table(data):
        assert data.file == {"of": "a" * 32}
        return data.history.assign(source="here")

    kept = replace(figure(table), history=("loss",), file="features.json", needs=())
    both = runs(dataset="mnist").assign(commit=["5e6fc4caf9d0", "0123456789ab"])
    made = make(
        Wanted("grokking", kept, "grokking", both),
        OneFile(),
        Options(store="", out=tmp_path, log=False),
    )
    assert made.notes == []
    assert made.picture.runs == ["a" * 8, "b" * 8]
    assert "0123456, 5e6fc4c" in made.picture.provenance


def figure(table, draw=lambda frame, canvas: canvas.subplots()):
    return Figure("Title", "What is drawn.", needs=("n",), point=("n",), table=table, draw=draw)


def wrong(data):
    data.notes.append("seen on the way")
    raise RuntimeError("two\nlines")


def no_picture(frame, canvas):
    raise ValueError("nothing to draw")


RAISED = (
    f"RuntimeError: two lines (test_report_making.py, line {wrong.__code__.co_firstlineno + 2})"
)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (figure(wrong), ["seen on the way", f"not drawn: {RAISED}"]),
        (figure(lambda data: data.runs, no_picture), ["not drawn: nothing to draw"]),
    ],
    ids=["its table", "its drawing"],
)
def test_a_figure_that_fails_says_why_and_what_it_left_out(declared, said, tmp_path):
    frame = runs()
    made = make(Wanted("mine", declared, "mine", frame), None, Options(out=tmp_path, log=False))
    assert made.picture is None
    assert made.notes == [f"mine: {note}" for note in ["1 run without n; left out", *said]]
    pd.testing.assert_frame_equal(frame, runs())


@pytest.mark.parametrize(
    ("table", "history", "said"),
    [
        (lambda data: data.history.dropna(subset="loss"), ("loss",), "no run has loss"),
        (lambda data: data.history, ("loss", "error"), "no run has loss, error"),
        (lambda data: data.runs.assign(source="a paper"), (), "these runs leave its table empty"),
        (lambda data: data.runs.assign(source="here")[:0], (), "these runs leave its table empty"),
    ],
    ids=["epochs left out", "epochs without values", "the paper alone", "no row"],
)
def test_axes_without_a_measured_point_are_not_drawn(table, history, said, tmp_path):
    class Store:
        def history(self, runs, metrics):
            return pd.DataFrame({"run": runs, **dict.fromkeys(metrics, float("nan"))})

    declared = replace(figure(table), history=history)
    made = make(Wanted("mine", declared, "mine", runs(n=1)), Store(), Options(tmp_path, log=False))
    assert made.picture is None
    assert made.notes == [f"mine: not drawn: {said}"]
    assert not list(tmp_path.iterdir())


def test_pictures_that_cannot_be_kept_with_their_sweep_are_drawn_all_the_same(tmp_path):
    class Refusing:
        def log(self, parent, path):
            raise PermissionError("403\nand a page of HTML")

    frame = runs(parent="c" * 32)
    declared = figure(lambda data: data.runs[["n"]].assign(source="here"))
    made = make(Wanted("mine", declared, "mine", frame), Refusing(), Options(out=tmp_path, dpi=40))
    assert made.picture.drawn.files == [tmp_path / "mine.png"]
    assert made.notes[-1] == "mine: not logged to sweep cccccccc (403); --no-log leaves it out"


@pytest.mark.parametrize(
    ("name", "shows", "experiment", "title", "stem"),
    [
        ("kernels", "", "kernels", "kernels", "kernels"),
        ("kernels", "mine", "mine", "kernels", "kernels"),
        ("kernels", "", "mine", "mine-kernels", "mine-kernels"),
        ("kernels", "", "../up", "../up-kernels", "_up-8c722b8a-kernels"),
    ],
)
def test_figures_of_other_experiments_have_both_names(name, shows, experiment, title, stem):
    declared = Figure("", "", (), (), lambda data: data.runs, no_picture, experiment=shows)
    wanted = Wanted(name, declared, experiment, pd.DataFrame())
    assert (wanted.title, wanted.stem) == (title, stem)


def test_a_file_that_is_no_figure_is_left_out_with_a_word(tmp_path, monkeypatch):
    for name, text in (("half", "def table(\n"), ("helper", "WIDTH = 3\n")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    complaints = []
    assert "rkhs_norm" in figures.discover(complaints)
    first, second = complaints
    assert first.startswith("figures/half.py: left out: SyntaxError: ")
    assert second.startswith("figures/helper.py: left out: AttributeError: ")
    with pytest.raises(SyntaxError):
        figures.discover()
