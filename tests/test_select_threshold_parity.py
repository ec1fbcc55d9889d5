"""The three stages that read scores only, on small made-up runs; each gate is shown to fail."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mobileclf.config import Settings
from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.records import read_csv, sha256_file, write_csv, write_json
from mobileclf.report import stages
from mobileclf.run import bring_up_to_date
from mobileclf.scores import HELD_BACK, score_file
from mobileclf.stages import parity, select, threshold

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
                    moved[0, 0] += 3 if moved[0, 0] < 128 else -3
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
def run(tmp_path):
    return Run(folder=tmp_path)


def failed(record) -> set[str]:
    return {gate["gate"] for gate in record["gates"] if not gate["passed"]}


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
    assert rows[0].keys() == {"variant", "part", "threshold", "fpr", "tpr"}
    assert rows[0]["threshold"] == "inf"
    for variant in ("float", "int8"):
        for part in ("threshold", "test"):
            points = [r for r in rows if (r["variant"], r["part"]) == (variant, part)]
            x, y = (np.array([float(r[key]) for r in points]) for key in ("fpr", "tpr"))
            area = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum()
            assert area == pytest.approx(record["auc"][variant][part])
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


def test_parity_passes_and_counts(run):
    record = run.parity()
    assert not failed(record)
    parity.check(record, require_proof=False)
    first, second = (
        run.scores[name, "test"].argmax(axis=1) for name in ("float", "calibrated.xnnpack")
    )
    truth = run.truth["test"]
    assert record["split"] == "test" and record["n"] == 400
    assert record["float"] == {"accuracy": float((first == truth).mean())}
    assert record["int8"] == {"accuracy": float((second == truth).mean())}
    assert record["agreement"] == float((first == second).mean())
    assert record["lost"] == int(((first == truth) & (second != truth)).sum())
    assert record["won"] == int(((first != truth) & (second == truth)).sum())
    assert len(record["changed"]) == int((first != second).sum())
    assert {gate["gate"] for gate in record["gates"]} == {
        "accuracy_drop_xnnpack", "accuracy_drop_builtin", "learnt_something",
        "every_class_predicted", "identical: LiteRT, TensorFlow",
    }  # fmt: skip
    assert all(gate.keys() == {"gate", "passed", "wanted", "found"} for gate in record["gates"])
    json.dumps(record, allow_nan=False)


def test_swapped_columns_fail_the_drop(run):
    run.change("test", "calibrated.xnnpack", by=lambda s: s[:, [1, 0, 2, 3]])
    record = run.parity()
    assert failed(record) == {"accuracy_drop_xnnpack"} and record["verdict"] == "worse"
    with pytest.raises(ProofError, match="accuracy_drop_xnnpack: wanted .*found worse"):
        parity.check(record, require_proof=False)
    assert len(record["changed"]) > 150
    assert record["changed"][0]["float"] != record["changed"][0]["int8"]


def test_other_kernels_fail_on_their_own(run):
    run.change("test", "calibrated.builtin", by=lambda s: s[:, [1, 0, 2, 3]])
    record = run.parity()
    assert failed(record) == {"accuracy_drop_builtin"} and record["builtin"]["verdict"] == "worse"
    assert record["verdict"] != "worse"


def test_the_oldest_runtime_is_gated_where_it_was_scored(run):
    good = run.scores["calibrated.builtin", "test"]
    run.scores["calibrated.tflite-runtime", "test"] = good.copy()
    record = run.parity()
    assert not failed(record) and record["oldest_runtime"]["accuracy"] > 0.9
    run.scores["calibrated.tflite-runtime", "test"] = good[:, ::-1].copy()
    assert failed(run.parity()) == {"accuracy_drop_oldest_runtime"}


def test_shuffled_labels_have_learnt_nothing(run):
    # Trained on shuffled labels, float and int8 agree on nonsense: only the learning gate sees it.
    order = np.random.default_rng(0).permutation(400)
    names = ("float", "calibrated.xnnpack", "calibrated.builtin")
    run.change("test", *names, by=lambda s: s[order])
    record = run.parity()
    assert failed(record) == {"learnt_something"}
    with pytest.raises(ProofError, match="learnt_something"):
        parity.check(record, require_proof=False)


def test_a_class_never_predicted_fails(run):
    def never_suillus(scores):
        scores[:, 3] = 0
        return scores

    names = ("float", "calibrated.xnnpack", "calibrated.builtin")
    run.change("test", *names, by=never_suillus)
    record = run.parity()
    assert failed(record) == {"every_class_predicted"}
    assert "never: Suillus" in next(g for g in record["gates"] if not g["passed"])["found"]


def test_an_identity_check_that_failed_fails(run):
    run.identical[0] |= {"passed": False, "largest_difference": 2}
    record = run.parity()
    assert failed(record) == {"identical: LiteRT, TensorFlow"}
    with pytest.raises(ProofError, match="largest difference 2"):
        parity.check(record, require_proof=False)


def test_a_failed_record_is_kept_and_fails_again(run):
    run.change("test", "calibrated.xnnpack", by=lambda s: s[:, [1, 0, 2, 3]])
    record = run.parity()
    again = bring_up_to_date(parity.STAGE, run.write())
    assert again == record
    with pytest.raises(ProofError):
        parity.check(again, require_proof=False)


def test_not_shown_passes_unless_proof_is_required(run):
    record = run.parity(max_drop=0.001)
    assert record["verdict"] == "not shown"
    parity.check(record, require_proof=False)
    with pytest.raises(ProofError, match="not shown"):
        parity.check(record, require_proof=True)


def test_proven_and_how_many_photos_it_takes(run):
    record = run.parity(max_drop=0.05)
    assert record["verdict"] == "proven"
    parity.check(record, require_proof=True)
    for name in ("calibrated.xnnpack", "calibrated.builtin"):
        run.scores[name, "test"] = run.quanta(run.scores["float", "test"])
    close = run.parity(max_drop=0.005)
    assert close["verdict"] == "not shown" and close["photos_to_prove"] > 400
    assert f"it would take {close['photos_to_prove']} test photos" in parity.advice(close)


def test_a_drop_beyond_the_limit_is_said_to_need_no_photos(run):
    # Two answers lost of 400 with none won, at a limit of a quarter of a percent.
    for name in ("calibrated.xnnpack", "calibrated.builtin"):
        answers = run.scores["float", "test"].argmax(axis=1)
        values = 255 * np.eye(4, dtype=np.uint8)[answers]
        right = np.flatnonzero(values.argmax(axis=1) == run.truth["test"])[:2]
        values[right] = values[right][:, [1, 2, 3, 0]]
        run.scores[name, "test"] = values
    record = run.parity(max_drop=0.0025)
    assert (record["lost"], record["won"]) == (2, 0)
    assert record["verdict"] == "not shown" and record["photos_to_prove"] is None
    assert "more photos would not prove it" in parity.advice(record)


def test_harmful_that_turns_harmless_is_listed(run):
    assert run.parity()["harmful_to_harmless"] == []

    def first_is_edible(scores):
        scores[0] = [0, 255, 0, 0]
        return scores

    run.change("test", "calibrated.xnnpack", by=first_is_edible)
    assert run.parity()["harmful_to_harmless"] == ["test/0.jpg"]
    run.groups = (None,) * 4
    assert run.parity()["harmful_to_harmless"] is None


def test_equal_runs_give_equal_records(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Run(folder=tmp_path / name).parity()
    for record in ("selection.json", "threshold.json", "parity.json", "roc.csv"):
        first, second = ((tmp_path / name / record).read_bytes() for name in ("one", "two"))
        assert first == second and str(tmp_path).encode() not in first
