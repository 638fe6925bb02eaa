"""Evaluation of folders: partners, groups, tables, JSON and CSV, and the published."""

import csv
import io
import json
from pathlib import Path

import pytest
from recordings import RATE, make_folders, speech, store
from rich.console import Console

from cmgan_jax.errors import UserError
from cmgan_jax.evaluation import published, tables
from cmgan_jax.evaluation.evaluation import Case, assemble, evaluate, match_files
from cmgan_jax.evaluation.scores import METRICS, FileScores
from cmgan_jax.metrics.scoring_pool import ScorePool


@pytest.fixture
def folders(tmp_path) -> Path:
    return make_folders(tmp_path)


def scored(name: str, **values: float) -> FileScores:
    return FileScores(name, {metric: values.get(metric, 1.0) for metric in METRICS})


def cases(*names: str) -> list[Case]:
    return [Case(name, {}) for name in names]


# Partners


def test_files_belong_together_by_name_below_the_folder_whatever_the_suffix(tmp_path):
    store(tmp_path / "c/x/a.wav", speech(0.1))
    store(tmp_path / "e/x/a.flac", speech(0.1))
    (case,) = match_files({"clean": tmp_path / "c", "enhanced": tmp_path / "e"})
    assert (case.name, case.problems) == ("x/a", {})
    assert case.paths == {"clean": tmp_path / "c/x/a.wav", "enhanced": tmp_path / "e/x/a.flac"}


def test_every_name_counts_and_a_missing_or_double_file_is_a_reason(tmp_path):
    for path in ("c/a.wav", "c/b.wav", "c/d.wav", "e/a.wav", "e/b.wav", "e/b.flac", "e/extra.wav"):
        store(tmp_path / path, speech(0.1))
    found = match_files({"clean": tmp_path / "c", "enhanced": tmp_path / "e"})
    assert {case.name: dict(case.problems) for case in found} == {
        "a": {},
        "b": {"enhanced": "2 enhanced files of that name: b.flac, b.wav"},
        "d": {"enhanced": f"no enhanced file of that name in {tmp_path / 'e'}"},
        "extra": {"clean": f"no clean file of that name in {tmp_path / 'c'}"},
    }


def test_more_noisy_files_than_enhanced_ones_do_not_make_more_to_score(tmp_path):
    for path in ("c/a.wav", "e/a.wav", "n/a.wav", "n/b.wav"):
        store(tmp_path / path, speech(0.1))
    found = match_files({"clean": tmp_path / "c", "noisy": tmp_path / "n", "enhanced": tmp_path / "e"})
    assert [case.name for case in found] == ["a"]
    found = match_files({"clean": tmp_path / "c", "noisy": tmp_path / "n"}, made="enhanced")
    assert [case.name for case in found] == ["a", "b"]
    no_clean = f"no clean file of that name in {tmp_path / 'c'}"
    assert [dict(case.problems) for case in found] == [{}, {"clean": no_clean}]


def test_folders_without_a_common_name_are_refused(tmp_path):
    store(tmp_path / "c/a.wav", speech(0.1))
    store(tmp_path / "e/b.wav", speech(0.1))
    with pytest.raises(UserError, match="no file name in common"):
        match_files({"clean": tmp_path / "c", "enhanced": tmp_path / "e"})


# Scores


def test_files_are_made_as_they_are_scored_and_what_cannot_be_made_is_a_reason(folders):
    def make(case: Case) -> Path:
        if case.name == "p002_b":
            raise UserError("this one does not work")
        return folders / "enhanced" / f"{case.name}.wav"

    found = match_files({"clean": folders / "clean", "noisy": folders / "noisy"}, made="enhanced")
    progress = []
    with ScorePool(1, time_limit=30) as pool:
        result = evaluate(
            found, ["noisy", "enhanced"], pool, make=make, progress=lambda done, total: progress.append((done, total))
        )
    first, second = result.scores["enhanced"]
    assert not first.reasons
    # Half of the noise is 20 log10(2) = 6.02 dB more, for noise that has nothing in common with the speech.
    gain = result.whole.gain
    assert gain is not None
    assert gain.statistics["si_sdr"].mean == pytest.approx(6.02, abs=0.05)
    assert set(second.reasons.values()) == {"this one does not work"}
    assert not any(of.reasons for of in result.scores["noisy"])
    # The file that was made is known to the report.
    assert [case.paths.get("enhanced") for case in result.cases] == [folders / "enhanced" / "p001_a.wav", None]
    assert not result.complete
    assert progress[0] == (0, 4)
    assert progress[-1] == (4, 4)


def test_files_are_grouped_by_input_snr_and_by_speaker():
    snrs = {"p1_a": -3.0, "p1_b": 0.0, "p2_a": 4.99, "p2_b": 15.0}
    result = assemble(
        cases(*snrs),
        {
            "noisy": [scored(name, si_sdr=snr) for name, snr in snrs.items()],
            "enhanced": [scored(name, pesq=i) for i, name in enumerate(snrs)],
        },
    )
    sizes = {(g.kind, g.label): g.summaries["enhanced"].total for g in result.groups}
    # An edge belongs to the upper group.
    assert sizes == {
        ("input_snr", "below 0 dB"): 1,
        ("input_snr", "0 to 5 dB"): 2,
        ("input_snr", "15 dB and more"): 1,
        ("speaker", "p1"): 2,
        ("speaker", "p2"): 2,
    }
    means = {g.label: g.summaries["enhanced"].statistics["pesq"].mean for g in result.groups}
    assert (means["p1"], means["p2"], means["0 to 5 dB"]) == (0.5, 2.5, 1.5)


def test_one_speaker_or_none_makes_no_group():
    result = assemble(cases("p1_a", "p1_b"), {"enhanced": [scored("p1_a"), scored("p1_b")]})
    assert result.groups == ()
    assert result.whole.gain is None


# Tables


def failing() -> FileScores:
    return FileScores("b", {"ssnr": 1.0}, {metric: "because" for metric in METRICS if metric != "ssnr"})


def test_json_has_the_documented_keys_and_null_where_there_is_no_score():
    result = assemble(
        cases("a", "b"), {"noisy": [scored("a"), scored("b")], "enhanced": [scored("a", pesq=3), failing()]}
    )
    content = json.loads(
        json.dumps(tables.document(result, published_scale=False, about={"version": "1"}), allow_nan=False)
    )
    assert [row["name"] for row in content["files"]] == ["a", "b"]
    assert {"name", "pesq", "csig", "cbak", "covl", "ssnr", "stoi", "si_sdr"} <= set(content["files"][0])
    assert content["files"][1]["pesq"] is None
    assert content["files"][1]["reasons"]["pesq"] == "because"
    assert content["summary"]["pesq"] == {"mean": 3.0, "std": None, "low": None, "high": None, "n": 1}
    assert set(content["summary"]["ssnr"]) == {"mean", "std", "low", "high", "n"}
    assert content["files"][0]["noisy"]["pesq"] == 1.0
    assert content["gain"]["pesq"]["mean"] == 2.0
    assert (content["scored"], content["total"]) == (1, 2)
    assert content["systems"]["noisy"]["scored"] == 2


def test_csv_has_a_line_for_each_file_and_an_empty_cell_where_there_is_no_score():
    result = assemble(
        cases("p1_a", "b"), {"noisy": [scored("p1_a", si_sdr=7), scored("b")], "enhanced": [scored("p1_a"), failing()]}
    )
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(result))))
    assert [row["name"] for row in rows] == ["p1_a", "b"]
    assert (rows[0]["pesq"], rows[0]["noisy_si_sdr"], rows[0]["speaker"], rows[0]["input_snr"]) == (
        "1.0",
        "7",
        "p1",
        "7",
    )
    assert (rows[1]["pesq"], rows[1]["ssnr"], rows[1]["missing"]) == ("", "1.0", "because")


def test_missing_scores_are_listed_by_reason_with_every_name():
    gone: dict[str, str] = {metric: "no such file" for metric in METRICS}
    partly = FileScores("c", {}, {"pesq": "hears no speech"})
    result = assemble(
        cases("a", "b", "c"), {"enhanced": [FileScores("a", {}, gone), FileScores("b", {}, gone), partly]}
    )
    assert tables.missing_lines(result) == [
        "enhanced: no score: a, b: no such file",
        "enhanced: no PESQ: c: hears no speech",
    ]
    assert tables.counts(result) == ["0 scored of 3"]


def test_notes_are_told_once_with_the_first_names_of_many(tmp_path):
    names = [f"f{i:02d}" for i in range(12)]
    noted = [FileScores(name, dict.fromkeys(METRICS, 1.0), notes=("is odd",)) for name in names]
    result = assemble(cases(*names), {"enhanced": noted, "noisy": [scored(name) for name in names]})
    line = "enhanced: is odd: f00, f01, f02, f03, f04 and 7 more"
    assert tables.note_lines(result) == [line]
    text = io.StringIO()
    tables.show(result, Console(file=text, width=tables.PLAIN_WIDTH), published_scale=False, detail=False)
    assert line in text.getvalue()


def test_a_piped_table_is_plain_and_unfolded():
    text = io.StringIO()
    result = assemble(cases("a"), {"enhanced": [scored("a", pesq=2.5)]})
    tables.show(result, Console(file=text, width=tables.PLAIN_WIDTH), published_scale=True, detail=False)
    assert "\x1b" not in text.getvalue()
    assert not set(text.getvalue()) & set("│┃─━╭╰")
    assert "2.500" in text.getvalue()
    assert "[-1, 1]" in text.getvalue()  # the label of the published scale
    assert "VoiceBank" not in text.getvalue()


def test_a_narrow_terminal_cuts_no_number():
    names = [f"p{i % 2 + 1}_{i}" for i in range(4)]
    scores = {
        s: [scored(n, pesq=1.234, si_sdr=-12.34 if i else 12.34) for i, n in enumerate(names)]
        for s in ("noisy", "enhanced")
    }
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=True, no_color=True)
    tables.show(assemble(cases(*names), scores), console, published_scale=False, detail=True)
    assert "…" not in text.getvalue()
    assert "-12.34" in text.getvalue()
    assert text.getvalue().count("p1 (2)") == 2  # in the table of groups, and as the title of its own


# Literature


def known_set():
    """824 names of the two speakers, with the known files as they are and the others at the published mean."""
    names = [*published.KNOWN, *(f"p257_{i:03}" for i in range(published.FILES - len(published.KNOWN)))]
    noisy: dict[str, float | None] = {name: published.KNOWN.get(name, (0, 1.965))[1] for name in names}
    lengths = {
        (name, side): samples / RATE for name, (samples, _) in published.KNOWN.items() for side in ("clean", "noisy")
    }
    return noisy, lengths


def test_the_test_set_is_known_by_names_lengths_and_noisy_scores():
    assert published.matches(*known_set())


@pytest.mark.parametrize(
    "change",
    [
        lambda noisy, lengths: noisy.pop("p257_001"),
        lambda noisy, lengths: noisy.update({"p257_900": None}),
        lambda noisy, lengths: noisy.update({"p258_000": noisy.pop("p257_001")}),
        lambda noisy, lengths: noisy.update({"p257_001": None}),
        lambda noisy, lengths: noisy.update({"p232_003": 2.9}),
        lambda noisy, lengths: noisy.update({name: 2.1 for name in noisy if name.startswith("p257")}),
        lambda noisy, lengths: lengths.update({("p232_052", "noisy"): 2.22}),
        lambda noisy, lengths: lengths.pop(("p232_052", "clean")),
    ],
    ids=[
        "a file less",
        "a file more",
        "another speaker",
        "unscored",
        "other noise",
        "other level",
        "other length",
        "no clean file",
    ],
)
def test_a_set_that_differs_is_not_the_test_set(change):
    noisy, lengths = known_set()
    change(noisy, lengths)
    assert not published.matches(noisy, lengths)


def test_a_part_of_the_test_set_is_not_compared_with_the_literature():
    names = list(published.KNOWN)
    result = assemble(cases(*names), {s: [scored(name) for name in names] for s in ("noisy", "enhanced")})
    assert not published.is_voicebank_test(result)


def test_the_literature_stands_beside_the_test_set(monkeypatch):
    monkeypatch.setattr(published, "is_voicebank_test", lambda _: True)
    text = io.StringIO()
    result = assemble(cases("a"), {s: [scored("a", pesq=3.333)] for s in ("noisy", "enhanced")})
    tables.show(result, Console(file=text, width=tables.PLAIN_WIDTH), published_scale=False, detail=False)
    lines = text.getvalue().splitlines()
    # CMGAN: Cao et al., Interspeech 2022, table 1.
    assert any(line.split() == ["CMGAN", "(2022)", "3.41", "4.63", "3.94", "4.12", "11.10", "0.96"] for line in lines)
    assert any(line.split()[:3] == ["this", "result", "3.33"] for line in lines)
