"""Comparisons: what is planned, what its runs come to, and what follows by the rules."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgan_jax.comparison import page, tables
from cmgan_jax.comparison.conclusion import Rules, better, by_chance, conclude
from cmgan_jax.comparison.likeness import changes_in_words, unequal
from cmgan_jax.comparison.outcome import FinishedRun, Interval, difference, interval, measures, read_runs, summary
from cmgan_jax.comparison.schedule import is_complete
from cmgan_jax.comparison.study import STUDIES, PlannedRun, Variant, parse_variant, plan
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.pesq_score import Score
from cmgan_jax.metrics.protocol import Scale
from cmgan_jax.recipes import make_config, override, to_dict
from cmgan_jax.system.outputs import write_json
from cmgan_jax.training.score_targets import fill

BASE = make_config("recommended", "tiny")


def run_of(variant: str, seed: int, pesq: list[float], planned: int | None = None, **train: float) -> FinishedRun:
    epochs = [{"epoch": i + 1, "train": train, "validation": {"score": value}} for i, value in enumerate(pesq)]
    return FinishedRun(variant, seed, epochs, planned or len(pesq), {})


def test_every_policy_meets_every_failure() -> None:
    names = [variant.name for variant in STUDIES["all"]]
    assert len(names) == len(set(names)) == 3 + 2 + 4 * 3
    for policy in ("skip", "batch_mean", "mean_fill", "mask"):
        for failures in ("samples-20", "samples-56", "batches-56"):
            assert f"{policy}-{failures}" in names


def test_the_protocol_plans_every_variant_with_every_seed(tmp_path: Path) -> None:
    """The variants that results/protocol/README.md names; the recipes differ in what they are known for."""
    items = plan(STUDIES["protocol"], (0, 1, 2), make_config(preset="small"), tmp_path)
    assert len(items) == 7 * 3
    configs = {item.variant: item.config for item in items}
    assert configs["no_adversarial"].loss.adversarial == 0 < configs["recommended"].loss.adversarial
    assert configs["published_head"].loss.time_reference == "unnormalised"
    assert {configs[name].targets.policy for name in ("published_2022", "skip-batches-56")} == {"skip"}
    assert configs["batch_mean-batches-56"].targets.inject_batch_failures == 0.56
    assert configs["mask-samples-56"].targets.inject_failures == 0.56
    rules = Path("results/protocol/README.md").read_text()
    assert all(name in rules for name in ("recommended", "published_2022", "published_head", "skip-batches-56"))


def test_without_failures_three_policies_are_one() -> None:
    """Why the studies have one variant for skip, mean_fill and mask without failures."""
    scores = [Score(pesq, None, seconds=0.1) for pesq in (2.0, 3.5)]
    of = {policy: fill(scores, policy, clip=True) for policy in ("skip", "mean_fill", "mask", "batch_mean")}
    for policy in ("skip", "mean_fill"):
        assert all(np.array_equal(a, b) for a, b in zip(of[policy], of["mask"], strict=True))
    assert (of["batch_mean"].value != of["mask"].value).all()


def test_plan_shares_numbers_and_orders_by_seed(tmp_path: Path) -> None:
    base = override(BASE, {"epochs": 7, "optimiser.clip_norm": 1.5})
    items = plan(STUDIES["recipes"], (3, 5), base, tmp_path)
    assert [(item.variant, item.config.seed) for item in items] == [
        (name, seed) for seed in (3, 5) for name in ("recommended", "published_2022", "published_head")
    ]
    assert {item.config.epochs for item in items} == {7}
    assert {item.config.optimiser.clip_norm for item in items} == {1.5}
    assert [item.config.targets.policy for item in items[:3]] == ["mask", "skip", "skip"]
    assert items[2].config.loss.time_reference == "unnormalised"
    assert items[4].folder == tmp_path / "published_2022" / "seed-5"


def test_variants_in_words() -> None:
    parsed = parse_variant("late: recipe=published_2022 epochs=3 targets.policy=mask loss.adversarial=0.1")
    assert parsed == Variant("late", "published_2022", {"epochs": 3, "targets.policy": "mask", "loss.adversarial": 0.1})


@pytest.mark.parametrize("words", ["no colon", "../up: epochs=3", "name: epochs", ": epochs=3"])
def test_malformed_variants_are_refused(words: str) -> None:
    with pytest.raises(UserError, match="write NAME"):
        parse_variant(words)


@pytest.mark.parametrize(
    ("variants", "seeds", "reason"),
    [
        ((Variant("a"), Variant("a")), (0,), "a given twice"),
        ((Variant("a"),), (1, 1), "1 given twice"),
        ((Variant("a"),), (), "none given"),
        ((Variant("a", "magic"),), (0,), "unknown recipe"),
        ((Variant("a", values={"epoch": 3}),), (0,), "no such number"),
        ((Variant("a", values={"epochs": "many"}),), (0,), "must be like"),
        ((Variant("a", values={"epochs": 0}),), (0,), "variant a: .*--epochs is 0"),
    ],
)
def test_plans_that_cannot_work_are_refused(
    variants: tuple[Variant, ...], seeds: tuple[int, ...], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"(?s){reason}"):
        plan(variants, seeds, BASE, tmp_path)


def test_interval_is_students() -> None:
    """t(0.975, 2) = 4.3027 (any table): half width = 4.3027 · s / √3, and s of 1, 2, 3 is 1."""
    of = interval([1.0, 2.0, 3.0, math.nan])
    assert (of.mean, of.n) == (2.0, 3)
    assert of.high is not None
    assert of.low is not None
    assert of.high - 2.0 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert 2.0 - of.low == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert interval([5.0]) == Interval(5.0, None, None, 1)
    assert interval([math.nan]) == Interval(None, None, None, 0)


def test_measures_by_hand() -> None:
    of = measures(run_of("a", 0, [2.0, 2.6, 2.3, 2.2, 2.1], discriminator_update=0.25, level_db=-3.0))
    assert of["best"] == 2.6
    assert of["last"] == pytest.approx(2.2)
    assert of["fall"] == pytest.approx(0.4)
    assert of["updates"] == 0.25
    assert of["level"] == -3.0
    assert math.isnan(of["rank"])


# --- epochs without a whole PESQ ---------------------------------------------------------------------------


def scored_run(variant: str, seed: int, *epochs: dict[str, Any]) -> FinishedRun:
    records = [
        {
            "epoch": number,
            "validation": {"scored": 6, "files": 6} | of,
            "noisy": {"score": 1.9, "pesq": 1.9, "scored": 6},
        }
        for number, of in enumerate(epochs, 1)
    ]
    return FinishedRun(variant, seed, records, len(records), {})


WHOLE: dict[str, Any] = {"score": 2.5}
NOTHING: dict[str, Any] = {"score": None, "scored": 0, "unscored": dict.fromkeys("abcdef", "silent")}
PART: dict[str, Any] = {"score": 2.9, "scored": 2, "unscored": dict.fromkeys("cdef", "timeout")}
MARKED: dict[str, Any] = {"score": 2.9, "complete": False}
NAN: dict[str, Any] = {"score": math.nan}


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ((NOTHING, NOTHING), "in epochs 4 to 5 of 5 (0 of 6 files scored: silent 6)"),
        ((WHOLE, NOTHING), "in epoch 5 of 5 (0 of 6"),
        ((PART, WHOLE), "in epoch 4 of 5 (2 of 6 files scored: timeout 4)"),
        ((WHOLE, MARKED), "in epoch 5 of 5"),
        ((WHOLE, NAN), "in epoch 5 of 5"),
    ],
)
def test_epochs_without_a_whole_score_count_and_are_named(last: tuple[dict[str, Any], ...], why: str) -> None:
    """Two seeds whose first epochs are better than the reference's; what the last ones are worth nobody knows."""
    runs = [scored_run("recommended", seed, *5 * [{"score": 2.0 + 0.01 * seed}]) for seed in (0, 1)]
    runs += [scored_run("skip", seed, *3 * [WHOLE], *last) for seed in (0, 1)]
    assert math.isnan(measures(runs[-1])["last"])
    recommended, skip = conclude(runs)
    assert "seed 0 has no whole PESQ" in skip.text
    assert "seed 1 has no whole PESQ" in skip.text
    assert why in skip.text
    assert "not compared with recommended: no seed of both has a result" in skip.text
    assert "whether skip collapses cannot be told" in skip.text
    assert (skip.unscored, skip.seeds, skip.collapses) == (2, 2, False)
    assert (recommended.unscored, "no whole PESQ" in recommended.text) == (0, False)
    assert summary(runs)["skip"]["last"].n == 0
    assert why in page.build(runs, conclude(runs))
    content = tables.as_json(runs, conclude(runs), Rules())
    assert [bool(run["unscored"]) for run in content["runs"]] == [False, False, True, True]


def test_the_reference_s_unscored_epochs_are_named_too() -> None:
    runs = [scored_run("recommended", seed, WHOLE, WHOLE, NOTHING if seed else WHOLE) for seed in range(3)]
    runs += [scored_run("skip", seed, WHOLE, WHOLE, {"score": 2.5 + seed}) for seed in range(3)]
    skip = conclude(runs)[1]
    assert "1 of 3 seed in pairs" in skip.text.replace("seeds", "seed")
    assert "recommended's seed 1 has no whole PESQ in epoch 3 of 3" in skip.text
    assert "recommended's seed 0" not in skip.text


def test_an_early_epoch_without_a_score_is_no_result_s_part() -> None:
    """Nor can it be the best: a mean over two of six files is that of other files."""
    run = scored_run("skip", 0, PART, {"score": 2.0}, {"score": 2.2}, {"score": 2.4})
    assert measures(run)["last"] == pytest.approx(2.2)
    assert measures(run)["best"] == pytest.approx(2.4)
    assert list(run.unscored) == [1]


def test_files_that_cannot_be_scored_at_all_are_not_missed() -> None:
    """One of six has no utterance, noisy or enhanced: every epoch is a mean over the same five."""
    run = scored_run("skip", 0, *3 * [{"score": 2.5, "scored": 5}])
    for record in run.epochs:
        record["noisy"]["scored"] = 5
    assert (measures(run)["last"], run.unscored) == (2.5, {})


def test_a_run_that_failed_has_no_part_and_is_named() -> None:
    good = [scored_run(name, seed, *3 * [WHOLE]) for name in ("recommended", "skip") for seed in (0, 1)]
    failed = [replace(of, seed=2, failure="stopped at step 7: not finite") for of in (good[0], good[2])]
    stopped = replace(good[2], seed=3, planned=9)
    runs = [*good, failed[1], stopped]
    skip = conclude(runs)[1]
    assert (skip.seeds, skip.failed, skip.difference.n) == (2, 1, 2)
    assert "in 0 of 3 seeds" in skip.text
    assert "seed 2 failed: stopped at step 7: not finite" in skip.text
    assert "seed 3 is at epoch 3 of 9" in skip.text
    assert summary(runs)["skip"]["last"].n == 2
    assert "(2 of 4)" in tables.rows(runs)[1][1]
    assert "skip: seed 2 failed: stopped" in tables.counted(runs)
    # Of a variant of which nothing ended well there is a sentence all the same, and a page.
    only = [*good[:2], failed[1]]
    assert "whether skip collapses cannot be told" in conclude(only)[1].text
    assert "no seed in common" in conclude(only)[1].text
    assert '<li class="bad">whether skip' in page.build(only, conclude(only))


def test_epochs_count_once_and_by_their_number(tmp_path: Path) -> None:
    """A resumed run may have written a record twice; one may be lost to a full disk."""
    stored(tmp_path, 0, [(1, 2.0), (2, 2.1), (2, 2.4), (3, 2.2)], epochs=3)
    stored(tmp_path, 1, [(1, 2.0), (1, 2.0), (2, 2.1)], epochs=3)
    stored(tmp_path, 2, [(1, 2.0), (3, 2.2)], epochs=3)
    twice, short, lost = read_runs(tmp_path)
    assert twice.score.tolist() == [2.0, 2.4, 2.2]
    assert short.lacks == "seed 1 is at epoch 2 of 3"
    assert lost.lacks == "seed 2 has no whole PESQ in epoch 2 of 3 (its record is lost)"
    assert is_complete(PlannedRun("recommended", override(BASE, {"epochs": 3}), tmp_path / "recommended" / "seed-2"))
    assert not is_complete(
        PlannedRun("recommended", override(BASE, {"epochs": 3}), tmp_path / "recommended" / "seed-1")
    )


# --- runs that are not alike -------------------------------------------------------------------------------


def stored(out: Path, seed: int, scores: Sequence[tuple[int, float]], **about: Any) -> None:
    """A run folder of the variant `recommended`; `about` holds `epochs`, `loss_time`, and fields of run.json."""
    folder = out / "recommended" / f"seed-{seed}"
    folder.mkdir(parents=True)
    values = {"seed": seed, "epochs": about.pop("epochs", 2), "loss.time": about.pop("loss_time", 0.2)}
    (folder / "run.json").write_text(json.dumps({"config": to_dict(override(BASE, values))} | about))
    records = [
        {"kind": "epoch", "step": 4 * number, "epoch": number, "train": {}, "validation": {"pesq": pesq}}
        for number, pesq in scores
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


ALIKE: dict[str, Any] = {
    "start": {"origin": "warm", "digest": "a" * 64},
    "devices": 1,
    "provenance": {"versions": {"jax": "0.10"}, "data": {"fingerprint": "f" * 64}, "source": {"commit": "c" * 40}},
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss_time": 0.5}, "seeds of recommended differ in loss.time: 0.2 (recommended/seed-0); 0.5"),
        ({"epochs": 1}, "seeds of recommended differ in epochs: 2 (recommended/seed-0); 1"),
        (
            {"start": None},
            "runs differ in what they began with: warm (weights aaaaaaaaaaaa) (recommended/seed-0); random",
        ),
        ({"devices": 2}, "runs differ in number of devices: 1 (recommended/seed-0); 2 (recommended/seed-1)"),
        ({"provenance": {"versions": {"jax": "0.11"}}}, "runs differ in the version of jax: 0.10"),
        ({"provenance": {"data": {"fingerprint": "e" * 64}}}, "runs differ in corpus: ffffffffffff"),
        ({"provenance": {"source": {"commit": "c" * 40, "dirty": True}}}, "runs differ in source revision"),
        ({}, None),
    ],
)
def test_runs_that_are_not_alike_are_named(changed: dict[str, Any], said: str | None, tmp_path: Path) -> None:
    stored(tmp_path, 0, [(1, 2.0), (2, 2.1)], **ALIKE)
    stored(tmp_path, 1, [(1, 2.0), (2, 2.1)], **(ALIKE | changed))
    runs = read_runs(tmp_path)
    lines = unequal(runs)
    assert (lines == []) if said is None else (len(lines) == 1 and lines[0].startswith(said))
    assert tables.as_json(runs, conclude(runs), Rules())["unequal"] == lines
    assert ("Not alike" in page.build(runs, conclude(runs))) == bool(said)


STOI = Scale("stoi", 0.0, 1.0)
DISTANCE = Scale("distance", 0.0, 35.0, "dB", higher_is_better=False)


def test_another_metric_has_its_name_and_its_own_thresholds() -> None:
    """0.2 of the 3.5 MOS of PESQ are 0.057 of STOI and 2 dB of the distance; its seeds are better where it is lower."""
    falling = {"a": [0.80, 0.74, 0.73, 0.73], "recommended": [0.80, 0.79, 0.79, 0.79]}
    runs = [
        replace(run_of(name, seed, [value + seed / 1e4 for value in of]), metric=STOI, compared=STOI)
        for name, of in falling.items()
        for seed in (0, 1)
    ]
    found = {finding.variant: finding for finding in conclude(runs)}
    assert found["a"].collapses
    assert not found["recommended"].collapses
    assert "lie more than 0.0571 below the best (largest fall 0.07)" in found["a"].text
    assert "worse than recommended (STOI -0.057" in found["a"].text
    assert tables.headings(runs)[:2] == ["STOI, last 3 epochs", "STOI, best epoch"]
    text = json.dumps(tables.as_json(runs, list(found.values()), Rules())) + page.build(runs, list(found.values()))
    assert "Validation STOI" in text
    assert "PESQ" not in text

    runs = [
        replace(
            run_of(run.variant, run.seed, [35 * (1 - value) for value in run.score]), metric=DISTANCE, compared=DISTANCE
        )
        for run in runs
    ]
    found = {finding.variant: finding for finding in conclude(runs)}
    assert found["a"].collapses
    assert not found["recommended"].collapses
    assert "lie more than 2 above the best (largest fall 2.33)" in found["a"].text
    assert "worse than recommended (distance +1.98" in found["a"].text
    assert measures(runs[0])["best"] == pytest.approx(7.0)
    assert tables.headings(runs)[0] == "distance dB, last 3 epochs"


def test_runs_on_different_metrics_are_compared_by_pesq(tmp_path: Path) -> None:
    for variant, metric in (("recommended", None), ("stoi", STOI)):
        out = tmp_path / variant / "seed-0"
        out.mkdir(parents=True)
        about: dict[str, Any] = {"config": to_dict(override(BASE, {"epochs": 1}))}
        write_json(out / "run.json", about | ({"target_metric": metric.to_dict()} if metric else {}))
        values = {"score": 0.9, "pesq": 2.5} if metric else {"pesq": 2.4}
        record = {"kind": "epoch", "step": 1, "epoch": 1, "train": {}, "validation": values | {"complete": True}}
        (out / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    runs = read_runs(tmp_path)
    assert [(run.metric.name, run.compared.name, run.score.tolist()) for run in runs] == [
        ("pesq", "pesq", [2.4]),
        ("stoi", "pesq", [2.5]),
    ]
    shutil.rmtree(tmp_path / "recommended")
    (run,) = read_runs(tmp_path)
    assert (run.compared.name, run.score.tolist()) == ("stoi", [0.9])


def test_other_held_out_files_are_named() -> None:
    """Noisy files score the same in every run that has the same ones."""
    runs = [scored_run("recommended", 0, WHOLE), scored_run("few", 0, WHOLE)]
    runs = [replace(run, config=to_dict(BASE)) for run in runs]
    assert unequal(runs) == []
    runs[1].epochs[0]["noisy"] = {"pesq": 2.1, "scored": 3}
    assert unequal(runs) == [
        "runs differ in held-out files: 6 files, PESQ 1.9000 as they are (recommended/seed-0); "
        "3 files, PESQ 2.1000 as they are (few/seed-0)"
    ]


def test_what_variants_change_is_listed() -> None:
    other = override(BASE, {"loss.time": 0.5, "epochs": 9, "seed": 4})
    runs = [replace(run_of("recommended", 0, [2.0]), config=to_dict(BASE))]
    runs += [replace(run_of("late", 4, [2.0]), config=to_dict(other))]
    assert changes_in_words(runs, "recommended") == ["late: epochs 9 (not 2), loss.time 0.5 (not 0.2)"]


def test_a_run_whose_record_is_lost_is_named(tmp_path: Path) -> None:
    stored(tmp_path, 0, [(1, 2.0), (2, 2.1)])
    stored(tmp_path, 1, [(1, 2.0), (2, 2.1)])
    (tmp_path / "recommended" / "seed-1" / "run.json").write_text("")
    runs = read_runs(tmp_path)
    assert "seed 1 failed: run.json cannot be read" in conclude(runs)[0].text
    assert "seed 1 failed" in page.build(runs, conclude(runs))


def test_differences_are_in_pairs() -> None:
    """Seeds differ by much, variants by 0.1 in each: only the pairs show it. The seed without a partner is left out."""
    runs = [run_of("a", seed, [2.0 + seed]) for seed in range(4)]
    runs += [run_of("b", seed, [2.1 + seed + 0.001 * seed]) for seed in range(3)]
    of = difference(runs, "b", "a")
    assert of.n == 3
    assert of.mean == pytest.approx(0.101)
    assert better(of) == 1
    assert better(difference(runs, "a", "b")) == -1
    assert better(difference(runs, "a", "a")) == 0
    assert better(interval([0.5])) == 0


def test_collapse_needs_its_share_of_the_seeds() -> None:
    good, bad = [2.0, 2.2, 2.4, 2.4, 2.4], [2.0, 2.6, 2.1, 2.1, 2.1]
    runs = [run_of("recommended", seed, good) for seed in range(3)]
    runs += [run_of("skip", seed, bad if seed else good) for seed in range(3)]
    runs += [run_of("mask", seed, good if seed else bad) for seed in range(3)]
    by_name = {finding.variant: finding for finding in conclude(runs)}
    assert (by_name["skip"].collapsed, by_name["skip"].collapses) == (2, True)
    assert (by_name["mask"].collapsed, by_name["mask"].collapses) == (1, False)
    assert "skip collapses: in 2 of 3 seeds" in by_name["skip"].text
    assert "largest fall 0.50" in by_name["skip"].text
    assert not any(finding.collapses for finding in conclude(runs, Rules(fall=0.6)))
    assert not conclude(runs, Rules(seeds=0.9))[1].collapses


def test_differences_by_chance_are_counted() -> None:
    """Of two comparisons one is clear, 0.5 ± 0.05 in three seeds; 5 % of two is 0.1."""
    runs = [run_of("recommended", seed, [2.0 + seed]) for seed in range(3)]
    runs += [run_of("skip", seed, [2.5 + 1.02 * seed]) for seed in range(3)]
    runs += [run_of("mask", seed, [2.0 + seed + 0.1 * (seed - 1)]) for seed in range(3)]
    words = by_chance(conclude(runs))
    assert words == "2 differences at 95 %: 0.1 would be found by chance alone; found: 1"


def test_runs_that_are_not_at_their_end_do_not_count() -> None:
    runs = [run_of("recommended", 0, [2.0]), run_of("skip", 0, [2.0], planned=5)]
    assert [finding.variant for finding in conclude(runs)] == ["recommended"]


def test_tables_regenerate_from_run_folders(tmp_path: Path) -> None:
    for seed, pesq in enumerate(([2.0, 2.1], [2.2, 2.5])):
        folder = tmp_path / "recommended" / f"seed-{seed}"
        folder.mkdir(parents=True)
        config = override(BASE, {"seed": seed, "epochs": 2})
        (folder / "run.json").write_text(json.dumps({"config": to_dict(config)}))
        records = [
            {"kind": "epoch", "step": i, "train": {"discriminator_update": 1.0}, "validation": {"pesq": value}}
            for i, value in enumerate(pesq)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        assert is_complete(PlannedRun("recommended", config, folder))
        assert not is_complete(PlannedRun("recommended", override(config, {"epochs": 3}), folder))
    runs = read_runs(tmp_path)
    assert summary(runs)["recommended"]["best"].mean == pytest.approx((2.1 + 2.5) / 2)
    content = tables.as_json(runs, conclude(runs), Rules())
    assert [run["pesq"] for run in content["runs"]] == [[2.0, 2.1], [2.2, 2.5]]
    assert content["summary"]["recommended"]["last"]["mean"] == pytest.approx((2.05 + 2.35) / 2)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        read_runs(tmp_path)


def test_cells() -> None:
    assert tables.cell(Interval(2.5, 2.4, 2.6, 3), ".3f") == "2.500 ±0.100"
    assert tables.cell(Interval(2.5, None, None, 1), ".3f") == "2.500"
    assert tables.cell(Interval(None, None, None, 0), ".3f") == "–"


def test_page_groups_by_failures_and_marks_a_collapse() -> None:
    failing = to_dict(override(BASE, {"targets.inject_failures": 0.2}))
    good, bad = [2.2, 2.3, 2.4], [2.0, 2.9, 2.0]
    runs = [FinishedRun("recommended", 0, run_of("", 0, good).epochs, 3, to_dict(BASE))]
    runs += [FinishedRun("skip-samples-20", seed, run_of("", 0, bad).epochs, 3, failing) for seed in (0, 1)]
    html = page.build(runs, conclude(runs))
    assert html.index("No score made to fail") < html.index("Made to fail: 20% of scores")
    assert '<li class="bad">skip-samples-20 collapses' in html
    assert '<li class="good">recommended does not collapse' in html
    assert html.count("<svg") == 2  # the curve of PESQ of each group: these runs recorded nothing else


def test_bands_are_lowest_and_highest_seed() -> None:
    """A seed that is not as far yet has no part in later epochs."""
    of = page.mean_curve("a", [run_of("a", 0, [2.0, 3.0]), run_of("a", 1, [4.0])], "score")
    assert of.y.tolist() == [3.0, 3.0]
    assert of.band is not None
    assert [edge.tolist() for edge in of.band] == [[2.0, 3.0], [4.0, 3.0]]
