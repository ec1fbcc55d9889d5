"""The three stages that read scores only, on small made-up runs; each gate is shown to fail."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mobileclf.characteristics import ROC_COLUMNS
from mobileclf.decision import Classes
from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.policy import Rule
from mobileclf.records import read_csv, sha256_file, write_csv, write_json
from mobileclf.report import stages
from mobileclf.run import bring_up_to_date
from mobileclf.scores import HELD_BACK, score_file
from mobileclf.settings import Settings
from mobileclf.stages import parity, select, threshold
from mobileclf.stats.operating_point import OperatingPoint

LABELS = ("Amanita", "Boletus", "Cortinarius", "Suillus")
GROUPS = ("NotEdible", "Edible", "NotEdible", "Edible")
COUNTS = {"validation": 100, "threshold": 200, "test": 400}


@dataclass
class Run:
    """A run folder whose scores tests may change before `write`."""

    folder: Path
    groups: tuple[str | None, ...] = GROUPS
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    identical: list[dict] = field(default_factory=list)
    in_float: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(4)
        for part, n in COUNTS.items():
            truth = np.arange(n) % 4
            logits = rng.normal(0, 1, (n, 4)) + 4 * np.eye(4)[truth]
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            self.truth[part] = truth
            self.scores["float", part] = p.astype(np.float32)
            near = self.quanta(p)
            self.scores["stock.xnnpack", part] = self.quanta(p + rng.normal(0, 0.05, p.shape))
            self.scores["calibrated.xnnpack", part] = near
            if part != "validation":
                for name in ("stock", "calibrated"):
                    moved = self.scores[f"{name}.xnnpack", part].astype(int)
                    # From one label to another, as outputs add up to 256 on any kernels.
                    moved[0, :2] += [3, -3] if moved[0, 0] < 128 else [-3, 3]
                    self.scores[f"{name}.builtin", part] = moved.astype(np.uint8)
        self.identical = [{"what": "LiteRT, TensorFlow", "largest_difference": 0, "passed": True}]

    @staticmethod
    def quanta(p: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(p * 256), 0, 255).astype(np.uint8)

    def write(self, **settings) -> Settings:
        rows = [{"label": a, "group": g} for a, g in zip(LABELS, self.groups, strict=True)]
        write_json(self.folder / "dataset.json", {"labels": rows, "harmful": None})
        columns = ("path", "label", "group", "split", "sha256", "problem")
        write_csv(
            self.folder / "dataset.csv",
            columns,
            (
                {"path": f"{part}/{i}.jpg", "label": LABELS[t], "split": part}
                for part in HELD_BACK
                for i, t in enumerate(self.truth[part])
            ),
        )
        variants: dict[str, dict] = {}
        digests = {}
        for (name, part), values in self.scores.items():
            path = self.folder / score_file(name, part)
            path.parent.mkdir(exist_ok=True)
            np.save(path, values)
            candidate, _, kernels = name.partition(".")
            int8 = bool(kernels)
            variants[name] = {
                "kind": "int8" if int8 else "float",
                "candidate": candidate if int8 else None,
                "kernels": ("builtin" if kernels != "xnnpack" else kernels) if int8 else None,
            }
            digests[path.name] = sha256_file(path)
        write_json(
            self.folder / "metrics.json",
            {"variants": variants, "identical": self.identical, "digests": digests},
        )
        named = sorted({row["candidate"] for row in variants.values() if row["candidate"]})
        rows = [{"candidate": name, "float_layers": self.in_float.get(name, [])} for name in named]
        write_json(self.folder / "convert.json", {"candidates": rows})
        write_json(self.folder / "train.json", {"temperature": 1.25})
        real = {"data": Path("photos"), "harmful": "NotEdible" if self.groups[0] else None}
        return Settings(run=self.folder, **{**real, **settings})

    def parity(self, **settings):
        made = self.write(**settings)
        for stage in (select.STAGE, threshold.STAGE, parity.STAGE):
            record = bring_up_to_date(stage, made)
        return record

    def change(self, part: str, *names: str, by) -> None:
        for name in names:
            self.scores[name, part] = by(self.scores[name, part].copy())


@pytest.fixture
def run(tmp_path, monkeypatch):
    # Drawing takes longer than all else here; one test draws.
    monkeypatch.setattr(threshold.curves, "drawings", lambda *_: {})
    return Run(folder=tmp_path)


def test_select_takes_the_candidate_that_changes_least(run):
    run.scores["stock.xnnpack", "validation"][:3] = run.scores["stock.xnnpack", "validation"][1:4]
    record = bring_up_to_date(select.STAGE, run.write())
    assert record["selected"] == "calibrated" and record["float_layers"] == []
    table = {row["candidate"]: row for row in record["candidates"]}
    assert list(table) == ["calibrated", "stock"]
    assert table["calibrated"]["agreement"] >= table["stock"]["agreement"]
    assert table["stock"]["kl"] > table["calibrated"]["kl"] > 0
    answers = run.scores["float", "validation"].argmax(axis=1)
    changed = (run.scores["stock.xnnpack", "validation"].argmax(axis=1) != answers).sum()
    assert table["stock"]["changed"] == changed == 3
    assert table["stock"]["agreement"] == 1 - changed / 100
    wanted = np.abs(
        run.scores["float", "validation"] - run.scores["stock.xnnpack", "validation"] / 256.0
    ).max()
    assert table["stock"]["largest_change"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("photos", "rows", "wanted"),
    [
        (100, {"a": (0, 0.2), "b": (1, 0.1)}, "b"),  # one answer is chance: KL tells them apart
        (100, {"a": (0, 0.2), "b": (2, 0.1)}, "a"),  # two of 100 are not
        (400, {"a": (3, 0.2), "b": (5, 0.1)}, "b"),  # two of 400 are
        (400, {"a": (3, 0.2), "b": (6, 0.1)}, "a"),
        (500, {"a": (0, 0.2), "b": (3, 0.1)}, "a"),  # n/200 is 2.5
        (100, {"c": (1, 0.1), "b": (0, 0.1), "a": (2, 0.1)}, "b"),  # the same KL: by name
        (100, {"a": (1, 0.3), "b": (0, 0.2), "c": (2, 0.1)}, "b"),  # within reach of the best alone
        (40, {"a": (7, 0.2)}, "a"),
    ],
)
def test_the_rule_by_hand(photos, rows, wanted):
    table = [{"candidate": name, "changed": n, "kl": kl} for name, (n, kl) in rows.items()]
    assert select.chosen(table, photos)["candidate"] == wanted


def test_select_puts_clearly_fewer_changes_before_kl(run):
    values = run.scores["float", "validation"]
    # Blunt, but every answer is float's; against close, but for a few answers.
    run.scores["stock.xnnpack", "validation"] = (
        20 + 180 * np.eye(4, dtype=np.uint8)[values.argmax(axis=1)]
    )
    close = run.quanta(values)
    for wrong, wanted in ((1, "calibrated"), (2, "stock")):
        close[:wrong] = run.quanta(values)[:wrong, ::-1]
        run.scores["calibrated.xnnpack", "validation"] = close
        record = bring_up_to_date(select.STAGE, run.write())
        calibrated, stock = record["candidates"]
        assert (calibrated["changed"], stock["changed"]) == (wrong, 0)
        assert stock["kl"] > calibrated["kl"] and record["selected"] == wanted


def test_select_says_which_layers_of_what_ships_are_in_float(run):
    run.in_float = {"stock": ["head"], "calibrated": ["stem", "head"]}
    assert bring_up_to_date(select.STAGE, run.write())["float_layers"] == ["stem", "head"]


def test_select_looks_at_validation_alone(run):
    before = bring_up_to_date(select.STAGE, run.write())["candidates"]
    run.change("test", "calibrated.xnnpack", by=lambda s: s[:, ::-1])
    assert bring_up_to_date(select.STAGE, run.write())["candidates"] == before


def test_select_wants_a_candidate(run):
    run.scores = {key: values for key, values in run.scores.items() if key[0] == "float"}
    with pytest.raises(DataError, match="found none"):
        bring_up_to_date(select.STAGE, run.write())


def printed(shown, width=80) -> str:
    with (console := Console(width=width, file=io.StringIO())).capture() as seen:
        console.print(shown)
    return seen.get()


def cells(shown) -> list[list[str]]:
    """The rows of tables as they are printed, each cell without what is around it."""
    lines = printed(shown).splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_the_table_of_candidates_fits_a_screen():
    names = ("stock", "calibrated", "reconstructed", "distilled", "mixed")
    candidates = [
        {"candidate": name, "accuracy": 0.1234567, "changed": 1234, "agreement": 0.0123456,
         "kl": 1.2345678e-05, "largest_change": 0.00123456}
        for name in names
    ]  # fmt: skip
    record = {
        "part": "validation", "n": 12345, "selected": "reconstructed", "float_layers": ["head"],
        "candidates": candidates,
    }  # fmt: skip
    rows = cells(stages._select(record))
    assert [row[:3] for row in rows] == [
        [name, "yes" if name == "reconstructed" else "", "1.2 %"] for name in names
    ]
    assert all(row[-1] == "12.3 %" for row in rows)


def quantized(**known):
    return {
        "checks": [], "candidates": [], "reason": None, "distillation": None, "mixed": None,
        **known,
    }  # fmt: skip


def test_the_table_of_quantize_says_what_was_made_and_whose_gate_it_was():
    gate = {"gate": {"photos": 128, "agreement": 0.95}, "int8": {"agreement": 0.90625},
            "mixed": {"agreement": 0.96875}, "passed": False, "float_layers": ["stem"]}  # fmt: skip
    made = ["calibrated", "reconstructed", "distilled", "mixed"]
    rows = cells(stages._quantize(quantized(candidates=made, mixed=gate)))
    assert ["made", ", ".join(made)] in rows
    assert ["same answers, wanted", "95.0 %"] in rows
    assert ["same answers, distilled", "90.6 %"] in rows
    assert ["same answers, mixed", "96.9 %"] in rows
    made, gate = made[:2], {**gate, "mixed": None, "float_layers": []}
    rows = cells(stages._quantize(quantized(candidates=made, mixed=gate)))
    assert ["same answers, reconstructed", "90.6 %"] in rows
    assert ["kept in float", "nothing would do"] in rows


def test_the_table_of_quantize_says_why_there_is_none():
    rows = cells(stages._quantize(quantized(reason="odd: a ReLU with a slope")))
    assert ["made", "none"] in rows and ["why", "odd: a ReLU with a slope"] in rows


def test_a_distillation_of_no_step_is_not_one_that_came_no_nearer():
    course = {"steps": 0, "stopped": "budget", "best_epoch": 0, "kl": [0.5]}
    rows = cells(stages._quantize(quantized(distillation=course)))
    assert ["best epoch", "none: no time for a first step"] in rows
    rows = cells(stages._quantize(quantized(distillation={**course, "steps": 1})))
    assert ["best epoch", "none: the start is nearer to float"] in rows


def chosen(run, **settings):
    made = run.write(**settings)
    bring_up_to_date(select.STAGE, made)
    return bring_up_to_date(threshold.STAGE, made)


def test_threshold_is_youdens_on_the_threshold_part(run):
    record = chosen(run)
    score = run.scores["calibrated.xnnpack", "threshold"].astype(int)[:, [0, 2]].sum(axis=1)
    harmful = run.truth["threshold"] % 2 == 0
    gains = [(score[harmful] >= t).mean() - (score[~harmful] >= t).mean() for t in range(1, 513)]
    wanted = 1 + next(i for i, gain in enumerate(gains) if gain > max(gains) - 1e-12)
    decision = record["decision"]
    assert decision["threshold_q"] == wanted and decision["threshold"] == wanted / 256
    assert decision["group"] == "NotEdible" and decision["abstain"] is None
    assert decision["kernel_bound"] == 3
    assert record["classes"]["groups"] == [
        {"group": "NotEdible", "harmful": True},
        {"group": "Edible", "harmful": False},
    ]


def test_threshold_reports_on_test(run):
    record = chosen(run)
    found, t = record["test"]["int8"], record["decision"]["threshold_q"]
    score = run.scores["calibrated.xnnpack", "test"].astype(int)[:, [0, 2]].sum(axis=1)
    harmful = run.truth["test"] % 2 == 0
    assert found["missed"] == int((score[harmful] < t).sum())
    assert found["false_alarms"] == int((score[~harmful] >= t).sum())
    assert found["caught"] + found["missed"] == int(harmful.sum())
    assert sum(found.values()) == 2 * found["n"] == 800
    assert 0.9 < record["auc"]["int8"]["test"] <= 1
    assert record["auc"]["float"].keys() == {"threshold", "test"}


def test_threshold_does_not_move_with_test(run):
    before = chosen(run)
    run.change("test", "calibrated.xnnpack", "float", by=lambda s: s[::-1])
    after = chosen(run)
    assert after["operating_point"] == before["operating_point"]
    assert after["test"] != before["test"]


def test_roc_csv_gives_the_auc_again(run):
    record = chosen(run)
    rows = read_csv(run.folder / "roc.csv")
    assert tuple(rows[0]) == ROC_COLUMNS
    assert rows[0]["threshold"] == "inf"
    of_decision = [r for r in rows if r["of"] == "decision"]
    assert {r["hull"] for r in of_decision} == {"yes", "no"}
    assert all(0 <= float(r["low"]) <= float(r["high"]) <= 1 for r in of_decision)
    for variant in ("float", "int8"):
        for part in ("threshold", "test"):
            wanted = {
                "decision": record["auc"][variant][part],
                **{
                    f"class:{label}": area
                    for label, area in record["one_against_rest"][variant][part]["classes"].items()
                },
                **{f"group:{name}": v for name, v in record["groups"][variant][part].items()},
            }
            assert len(wanted) == 1 + 4 + 2
            for of, area in wanted.items():
                named = (variant, part, of)
                points = [r for r in rows if (r["variant"], r["part"], r["of"]) == named]
                x, y = (np.array([float(r[key]) for r in points]) for key in ("fpr", "tpr"))
                assert ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() == pytest.approx(area)
                assert all(float(r["threshold"]) <= 2 for r in points[1:])


def test_threshold_without_groups_is_a_minimum_confidence(run):
    run.groups = (None,) * 4
    record = chosen(run)
    assert record["decision"]["group"] is None and record["classes"]["groups"] == []
    found = record["test"]["int8"]
    assert found.keys() == {"n", "right", "right_not_sure", "wrong", "wrong_not_sure"}
    scores = run.scores["calibrated.xnnpack", "test"]
    sure = scores.max(axis=1) >= record["decision"]["threshold_q"]
    right = scores.argmax(axis=1) == run.truth["test"]
    assert found["wrong"] == int((sure & ~right).sum())
    assert found["right"] == int((sure & right).sum())


def test_what_is_said_of_the_models_equals_scikit_learn(run):
    from sklearn.metrics import average_precision_score, roc_auc_score

    record = chosen(run)
    for variant, file in (("float", "float"), ("int8", "calibrated.xnnpack")):
        for part in ("threshold", "test"):
            scores, truth = run.scores[file, part].astype(float), run.truth[part]
            each = record["one_against_rest"][variant][part]
            for i, label in enumerate(LABELS):
                wanted = roc_auc_score(truth == i, scores[:, i])
                assert each["classes"][label] == pytest.approx(wanted)
            harmful, score = truth % 2 == 0, scores[:, [0, 2]].sum(axis=1)
            assert record["auc"][variant][part] == pytest.approx(roc_auc_score(harmful, score))
            assert record["groups"][variant][part]["Edible"] == pytest.approx(
                roc_auc_score(~harmful, scores[:, [1, 3]].sum(axis=1))
            )
            assert record["average_precision"][variant][part] == pytest.approx(
                average_precision_score(harmful, score)
            )
            found = record["intervals"][variant][part]
            assert found["units"] == len(truth)
            for how in ("delong", "bootstrap"):
                low, high = found[how]
                assert low < high and low <= record["auc"][variant][part] <= high + 1e-12


def test_calibration_is_of_test_photos_before_and_after_the_temperature(run):
    record = chosen(run)["calibration"]
    assert record["part"] == "test" and record["temperature"] == 1.25
    assert list(record["variants"]) == ["float before temperature", "float", "int8"]
    p, truth = run.scores["float", "test"].astype(float), run.truth["test"]
    before = p**1.25 / (p**1.25).sum(axis=1, keepdims=True)
    for name, values in (("float", p), ("float before temperature", before)):
        squares = ((values - np.eye(4)[truth]) ** 2).sum(axis=1).mean()
        assert record["variants"][name]["brier"] == pytest.approx(squares)
        bins = record["variants"][name]["bins"]
        assert sum(bins["photos"]) == 400
        gaps = np.abs(np.subtract(bins["accuracy"], bins["confidence"])) * bins["photos"]
        assert record["variants"][name]["ece"] == pytest.approx(gaps.sum() / 400)


def test_a_guarantee_and_a_cut_are_in_the_decision(run):
    record = chosen(run, policy="guarantee", most_missed=0.1, abstain="margin", answer_rate=0.95)
    promise, decision = record["guarantee"], record["decision"]
    assert promise["kernels"] == ["xnnpack", "builtin"] and promise["harmful"] == 100
    assert promise["bound"] <= 0.1 and promise["threshold_q"] == decision["threshold_q"]
    assert decision["abstain"]["by"] == "margin"
    answered = record["abstain"].pop("answered")
    assert record["abstain"] == {
        "by": "margin",
        "cut_q": decision["abstain"]["cut_q"],
        "chosen_on": "validation",
        "wanted": {"answer_rate": 0.95},
    }
    held = sum(v for k, v in record["test"]["int8"].items() if k.endswith("not_sure"))
    assert answered["test"] == 1 - held / 400 and answered.keys() >= {"validation", "threshold"}
    assert promise["test"]["harmful"] == 200
    assert promise["test"]["missed"] == record["test"]["int8"]["missed"]
    assert record["policy"] == {"name": "guarantee", "most_missed": 0.1, "confidence": 0.95}
    for point in record["operating_point"].values():
        assert point["threshold"] == point["threshold_q"] / 256
    for name in ("float", "int8", "builtin"):
        found = record["test"][name]
        assert sum(found.values()) == 2 * found["n"] == 800
    assert record["test"]["int8"]["harmless_not_sure"] > 0
    rows = read_csv(run.folder / "abstain.csv")
    at = [
        row for row in rows
        if (row["part"], row["by"]) == ("test", "margin")
        and int(row["cut_q"]) >= decision["abstain"]["cut_q"]
    ][0]  # fmt: skip
    assert int(at["missed"]) == record["test"]["int8"]["missed"]
    assert int(at["answered"]) == 400 - held


def test_the_pictures_of_a_threshold_are_its_outputs(tmp_path):
    record = chosen(Run(folder=tmp_path))
    for name in ("roc.png", "precision_recall.png", "reliability.png", "abstain.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert record["outputs"][name] == sha256_file(tmp_path / name)


def test_too_few_photos_for_a_guarantee_are_counted(run):
    with pytest.raises(ProofError, match="299 harmful photos are needed"):
        chosen(run, policy="guarantee")


def of_int8(run) -> list[dict[str, str]]:
    rows = read_csv(run.folder / "roc.csv")
    return [
        r for r in rows if (r["variant"], r["part"], r["of"]) == ("int8", "threshold", "decision")
    ]


def test_float_and_int8_have_rules_of_their_own(run):
    def flatter(scores):
        return (scores**0.3) / (scores**0.3).sum(axis=1, keepdims=True)

    for part in ("validation", "threshold"):
        run.change(part, "float", by=flatter)
    settings = {"policy": "guarantee", "most_missed": 0.1, "abstain": "margin"}
    record = chosen(run, **settings, answer_rate=0.95)
    points = record["operating_point"]
    assert points["int8"]["threshold_q"] == record["decision"]["threshold_q"]
    assert points["int8"]["abstain"] == record["decision"]["abstain"]
    assert points["float"]["threshold_q"] != points["int8"]["threshold_q"]
    assert points["float"]["abstain"]["cut_q"] < points["int8"]["abstain"]["cut_q"]
    # What the float model says on either part does not move what ships.
    run.change("validation", "float", by=lambda s: s[::-1])
    run.change("threshold", "float", by=flatter)
    assert chosen(run, **settings, answer_rate=0.95)["decision"] == record["decision"]


def test_a_float_model_without_a_threshold_does_not_stop_what_ships(run):
    run.change("threshold", "float", by=lambda s: np.full_like(s, 0.25))
    record = chosen(run)
    assert record["operating_point"]["float"] == record["operating_point"]["int8"]
    assert any("float model has no threshold" in line for line in record["warnings"])


def test_a_promise_on_one_kernel_family_alone_is_said(run):
    def broken(scores):
        scores[[i for i in range(0, 200, 2)][:30]] = (0, 255, 0, 1)
        return scores

    run.change("threshold", "calibrated.builtin", by=broken)
    record = chosen(run, policy="guarantee", most_missed=0.1)
    assert record["guarantee"]["kernels"] == ["xnnpack"]
    assert any("XNNPACK's kernels alone" in line for line in record["warnings"])
    assert record["decision"]["kernel_bound"] > 100


def test_a_promise_that_test_photos_break_is_said(run):
    def missed(scores):
        scores[::4] = (0, 255, 0, 1)
        return scores

    run.change("test", "calibrated.xnnpack", by=missed)
    record = chosen(run, policy="guarantee", most_missed=0.1)
    assert record["guarantee"]["test"]["missed"] >= 100
    assert any("not alike" in line for line in record["warnings"])
    assert not chosen(Run(folder=run.folder), policy="guarantee", most_missed=0.1)["warnings"]


def test_fewer_answers_than_asked_for_and_few_warnings_are_said(run):
    record = chosen(run, policy="guarantee", most_missed=0.1, abstain="score", answer_rate=0.52)
    assert any("called harmful, of the others" in line for line in record["warnings"])
    record = chosen(run, policy="guarantee", most_missed=0.2, abstain="largest", answer_rate=0.8)
    assert record["abstain"]["answered"]["threshold"] < 0.8
    assert any(line.startswith("--answer-rate 0.8") for line in record["warnings"])


def test_a_threshold_that_the_outputs_cannot_reach_is_an_error():
    one = Classes(labels=("a", "b"), groups=("a", "b"), harmful="b")
    point = OperatingPoint(threshold_q=256, j=0.5, tpr=0.5, fpr=0.0, warning=None)
    with pytest.raises(ProofError, match="found 256 where their score is at most 255"):
        threshold._check_expressible(Rule(point=point), one)


def test_copies_are_counted_once(run):
    def doubled(scores):
        place = np.arange(len(scores))
        return scores[np.where(place % 8 >= 4, place - 4, place)]

    run.change("threshold", "float", "calibrated.xnnpack", "calibrated.builtin", by=doubled)
    made = run.write(policy="guarantee", most_missed=0.1)
    bring_up_to_date(select.STAGE, made)
    before = bring_up_to_date(threshold.STAGE, made)
    narrow = sum(float(r["high"]) - float(r["low"]) for r in of_int8(run))
    rows = read_csv(run.folder / "dataset.csv")
    for row in rows:  # every second photo of a class is a copy of the one before
        row["copy_of"] = ""
        part, name = row["path"].split("/")
        number = int(name.removesuffix(".jpg"))
        if part == "threshold" and number % 8 >= 4:
            row["copy_of"] = f"threshold/{number - 4}.jpg"
    write_csv(run.folder / "dataset.csv", tuple(rows[0]), rows)
    after = bring_up_to_date(threshold.STAGE, made)
    assert after["guarantee"]["harmful"] == 50 == before["guarantee"]["harmful"] // 2
    assert after["auc"] == before["auc"]
    one, other = (each["intervals"]["int8"]["threshold"] for each in (before, after))
    assert (one["units"], other["units"]) == (200, 100)
    for how in ("delong", "bootstrap"):
        assert np.subtract(*other[how][::-1]) > np.subtract(*one[how][::-1])
    wider = sum(float(r["high"]) - float(r["low"]) for r in of_int8(run))
    assert wider > narrow


def test_what_it_says_of_other_things(run):
    made = run.write(abstain="largest", answer_rate=0.9)
    rng = np.random.default_rng(0)
    flat = rng.dirichlet(np.full(4, 3.0), 50)
    for name in ("float", "calibrated.xnnpack", "calibrated.builtin"):
        values = flat.astype(np.float32) if name == "float" else run.quanta(flat)
        np.save(run.folder / score_file(name, "others"), values)
    for part, high in (("test", 5.0), ("others", 1.0)):
        n = 400 if part == "test" else 50
        logits = rng.normal(0, 1, (n, 4)) + high * np.eye(4)[np.arange(n) % 4]
        np.save(run.folder / score_file("float_logits", part), logits)
    metrics = json.loads((run.folder / "metrics.json").read_text())
    write_json(run.folder / "metrics.json", {**metrics, "others": {"images": 50, "logits": True}})
    bring_up_to_date(select.STAGE, made)
    record = bring_up_to_date(threshold.STAGE, made)
    others = record["others"]
    for name in ("float", "int8", "builtin"):
        assert sum(others[name].values()) == others["images"] == 50
    assert others["int8"]["not_sure"] > 5 * record["test"]["int8"]["harmless_not_sure"] * 50 / 400
    assert set(others["separation"]) == {"largest", "margin", "energy", "max_logit"}
    assert all(0.8 < area <= 1 for area in others["separation"].values())
    # A demo is not sure of anything harmless, which says nothing of the rule.
    write_json(run.folder / "train.json", {"temperature": 1.0})
    demo = bring_up_to_date(threshold.STAGE, replace(made, data=None))
    assert demo["others"] == others and demo["test"] == record["test"]


def test_threshold_refuses_what_tells_nothing(run):
    run.change("threshold", "calibrated.xnnpack", by=lambda s: np.full_like(s, 64))
    with pytest.raises(ProofError, match="Youden"):
        chosen(run)


def test_threshold_wants_harmful_and_matching_scores(run):
    with pytest.raises(UsageError, match="--harmful"):
        chosen(run, harmful=None)
    run.change("test", "calibrated.xnnpack", by=lambda s: s[:-1])
    with pytest.raises(DataError, match="wanted 400 photos, found 399"):
        chosen(run)


def test_purpose_makes_the_record_anew(run):
    assert chosen(run)["purpose"] == "real"
    assert chosen(run, data=None)["purpose"] == "demo"


def test_equal_runs_give_equal_records(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Run(folder=tmp_path / name).parity()
    for record in ("selection.json", "threshold.json", "parity.json", "roc.csv"):
        first, second = ((tmp_path / name / record).read_bytes() for name in ("one", "two"))
        assert first == second and str(tmp_path).encode() not in first
