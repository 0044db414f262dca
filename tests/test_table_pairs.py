"""A file of test rows beside one of training rows: groups and times of both."""

import warnings

import pandas as pd
import pytest
from small_table import loaded, table_of


def pair(frame, folder, first, ending="csv", **changes):
    """The first rows in a file to train on, the others, changed, in one to test on."""
    train, test = frame.iloc[:first], frame.iloc[first:].assign(**changes)
    for name, part in (("train", train), ("test", test)):
        path = folder / f"{name}.{ending}"
        part.to_csv(path, index=False) if ending == "csv" else part.to_parquet(path, index=False)
    return {"path": folder / f"train.{ending}", "test": str(folder / f"test.{ending}")}


def told(source):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded(source)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", ["patient", "city"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_group_with_rows_in_both_files_is_refused(ending, name, frame, tmp_path):
    own = pair(frame, tmp_path, 80, ending)
    with pytest.raises(ValueError, match=".") as caught:
        loaded(table_of(**own, group=name))
    said = str(caught.value)
    both = {str(one) for one in {*frame[name][:80]} & {*frame[name][80:]}}
    assert said.startswith(
        f"dataset.group={name}: must be a column of which no value has rows in both {own['path']} and {own['test']}; "
        f"{len(both)} of {frame[name][80:].nunique()} have, as "
    )
    assert said.split(", as ")[1].split(": remove these rows from one of them")[0] in both
    assert "\n" not in said


def test_groups_that_are_apart_are_taken(frame, tmp_path):
    frame = frame.sort_values("patient").reset_index(drop=True)
    first = int((frame.patient < 18).sum())
    assert told(table_of(**pair(frame, tmp_path, first), group="patient")) == []
    # Of numbers with missing ones others have floating-point numbers.
    own = pair(frame, tmp_path, first, "parquet", patient=[3.0] + [None] * (len(frame) - first - 1))
    with pytest.raises(ValueError, match=r"; 1 of 1 have, as 3: remove these rows"):
        loaded(table_of(**own, group="patient"))


def test_groups_that_are_texts_in_one_file_alone(tmp_path):
    for name, codes in (("t", ["007", "008"]), ("new", ["007", "A12"])):
        made = pd.DataFrame({"who": codes * 10, "x": range(20), "y": range(20)})
        made.to_csv(tmp_path / f"{name}.csv", index=False)
    source = table_of(tmp_path / "t.csv", "y", (), test=f"{tmp_path}/new.csv", group="who")
    with pytest.raises(ValueError, match="; 1 of 2 have, as 007: remove these rows"):
        loaded(source)


def test_a_test_file_may_have_no_times(frame, tmp_path):
    own = pair(frame, tmp_path, 80)
    pd.read_csv(own["test"]).assign(when=None).to_csv(own["test"], index=False)
    assert told(table_of(**own, drop=["patient"], time="when")) == []


@pytest.mark.parametrize("role", ["group", "time"])
def test_a_test_file_need_not_have_the_column(role, frame, tmp_path):
    name = {"group": "patient", "time": "when"}[role]
    own = pair(frame, tmp_path, 80)
    pd.read_csv(own["test"]).drop(columns=name).to_csv(own["test"], index=False)
    drop = ["when"] if role == "group" else ["patient"]
    assert told(table_of(**own, drop=drop, **{role: name})) == []


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_test_rows_that_are_not_later_are_warned_of(ending, frame, tmp_path):
    frame = frame.sort_values("when").reset_index(drop=True)
    source = {"drop": ["patient"], "time": "when"}
    assert told(table_of(**pair(frame, tmp_path, 80, ending), **source)) == []
    same = pair(frame, tmp_path, 80, ending, when=frame.when[79])
    assert told(table_of(**same, **source)) == []
    swapped = pd.concat([frame[70:], frame[:70]])
    own = pair(swapped, tmp_path, 45, ending)
    [line] = told(table_of(**own, **source))
    assert line.startswith(
        f"{own['test']}: 70 of 75 test rows are before the last training row (when=2020-04-24"
    )
    assert line.endswith("): their scores are not those of later rows")


def test_times_without_a_common_order_are_refused(frame, tmp_path):
    for when, message in (
        (range(40), "of one type: in .*train.parquet it is timestamp.*, in .*test.parquet int64"),
        ("May", "a column of numbers or dates, in .*test.parquet it has texts, as 'May'"),
    ):
        own = pair(frame, tmp_path, 80, "parquet", when=when)
        with pytest.raises(ValueError, match=f"dataset.time=when: must be {message}") as caught:
            loaded(table_of(**own, drop=["patient"], time="when"))
        assert "\n" not in str(caught.value)
