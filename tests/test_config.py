"""Settings: where they come from, which wins, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mobileclf import config
from mobileclf.config import as_record, make_settings, read_config, resolve
from mobileclf.errors import UsageError
from mobileclf.settings import OPTIONS, Settings
from mobileclf.spelling import costs_of, rewrites_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_flags_win_over_the_file_and_the_file_over_defaults() -> None:
    Path("mobileclf.toml").write_text('epochs = 5\nimage-size = 96\nhead = "sigmoid"\n')
    settings = make_settings({"epochs": 7, "patience": None})
    assert (settings.epochs, settings.image_size, settings.head) == ("7", 96, "sigmoid")
    assert settings.patience == Settings().patience


def test_a_named_file_takes_the_place_of_the_usual_one() -> None:
    Path("mobileclf.toml").write_text("epochs = 5")
    Path("other.toml").write_text("patience = 2")
    settings = make_settings({}, config=Path("other.toml"))
    assert (settings.epochs, settings.patience) == (Settings().epochs, 2)
    with pytest.raises(UsageError, match="absent.toml"):
        make_settings({}, config=Path("absent.toml"))


@pytest.mark.parametrize(
    "text",
    ["epoch = 1", "epochs = 1.5", "epochs = true", "fp16 = 1", "name = 3", "[a]"],
)
def test_unknown_keys_and_wrong_types_are_refused(text: str) -> None:
    Path("c.toml").write_text(text)
    with pytest.raises(UsageError, match="c.toml"):
        read_config(Path("c.toml"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": "20+"},
        {"head": "64,relu"},
        {"shape": "100,100"},
        {"classes": "cat"},
        {"channels": 2},
        {"augment": "flip,blur=1"},
        {"recipe": "seed-cars"},
        {"max_drop": 1.1},
        {"max_drop": float("nan")},
        {"calibration_photos": 127},
        {"without": "folding"},
        {"without": "biases"},
        {"without": "average-pools,,lone-relus"},
        {"budget": "20"},
        {"budget": "m"},
        {"budget": "0s"},
        {"budget": "1.5h"},
        {"seed": -1},
        {"backbone": "vgg"},
        {"io": "int16"},
        {"name": "a/b"},
        {"name": ".."},
        {"backbone": "inception_v3", "image_size": 74},
        {"policy": "best"},
        {"policy": "fix-tpr", "tpr": 0.0},
        {"policy": "fix-fpr", "fpr": 1.0},
        {"policy": "guarantee", "most_missed": 0.0},
        {"policy": "guarantee", "confidence": 1.0},
        {"abstain": "entropy"},
        {"abstain": "margin", "answer_rate": 1.1},
        {"abstain": "margin", "answer_rate": float("nan")},
        {"policy": "min-cost", "costs": "missed=0"},
        {"policy": "min-cost", "costs": "missed=-1"},
        {"policy": "min-cost", "costs": "missed=nan"},
        {"policy": "min-cost", "costs": "abstain=inf"},
        {"policy": "min-cost", "costs": "missed"},
        {"policy": "min-cost", "costs": "missed=1,missed=2"},
        {"policy": "min-cost", "costs": "lost=1"},
        {"policy": "min-cost", "costs": ""},
        {"policy": "min-cost", "costs": {}},
        {"frobnicate": 1},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_settings(wrong)


def test_nothing_is_left_out_by_no_name() -> None:
    assert rewrites_of("average-pools, ") == rewrites_of("average-pools") == ("average-pools",)
    assert rewrites_of("") == rewrites_of(" ,") == rewrites_of(None) == ()
    assert make_settings({"without": ""}).without == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("batch_norms", "no such rewrite; did you mean batch-norms?"),
        ("Average-Pools", "no such rewrite; did you mean average-pools?"),
        ("biases", "without it there is no int8"),
        ("colours", "there is no such rewrite"),
    ],
)
def test_a_near_name_of_a_rewrite_is_hinted(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"--without '{name}': {re.escape(said)}"):
        rewrites_of(f"lone-relus,{name}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("budget = 30", 'budget wants text such as "30s", found 30'),
        ('without = ["biases"]', 'without wants text such as "average-pools,lone-relus", found ['),
        ("name = 3", "name wants text, found 3"),
        ("seed = 1.5", "seed wants a whole number, found 1.5"),
        ("dropout = true", "dropout wants a number, found True"),
        ("fp16 = 1", "fp16 wants true or false, found 1"),
        ("data = 1", "data wants a path as text, found 1"),
        ("costs = 100", 'costs wants text such as "missed=100,false-alarm=1,abstain=5", found 100'),
        (
            "[costs]\nmissed = true",
            "c.toml: costs wants numbers for missed, false-alarm, abstain, found missed = True",
        ),
        ("[costs]\nmisses = 1", "found misses = 1"),
    ],
)
def test_what_a_key_wants_is_said_in_words(text: str, wanted: str) -> None:
    Path("c.toml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(wanted)):
        read_config(Path("c.toml"))


def test_the_sample_and_photos_have_their_own_defaults() -> None:
    sample = resolve(Settings())
    assert (sample.backbone, sample.weights, sample.image_size) == ("small_cnn", "none", 64)
    assert (sample.purpose, sample.name, sample.run) == ("demo", "sample", Path("runs/sample"))
    assert sample.harmful == "NotEdible"
    photos = resolve(Settings(data=Path("some/birds")))
    assert (photos.backbone, photos.weights, photos.image_size) == ("inception_v3", "imagenet", 299)
    assert (photos.purpose, photos.name, photos.harmful) == ("real", "birds", None)


def test_a_record_of_settings_makes_the_same_settings() -> None:
    settings = make_settings({"data": "d", "epochs": 3, "harmful": "x", "fp16": True})
    assert tuple(as_record(settings)) == OPTIONS
    assert make_settings(as_record(settings)) == settings


def again(base: dict[str, Any], **given: object) -> Settings:
    """What a command on a run gets that was made with `base`."""
    made = as_record(make_settings(base))
    return make_settings(given, base={k: v for k, v in made.items() if v is not None})


def test_a_recipe_that_a_run_was_made_with_does_not_undo_its_flags() -> None:
    Path("mobileclf.toml").write_text('recipe = "seed-digits"')
    found = again({"data": "d", "dropout": 0.5, "seed": 7, "head": "32"})
    assert (found.dropout, found.seed, found.head, found.channels) == (0.5, 7, "32", 1)


def test_another_recipe_takes_all_of_the_first_away() -> None:
    found = again({"data": "d", "recipe": "seed-digits"}, recipe="seed-mushrooms")
    assert (found.backbone, found.channels, found.seed) == ("inception_v3", 3, 0)
    assert (found.weights, found.image_size, found.augment) == ("imagenet", 224, "seeds")


def test_a_backbone_in_the_file_leaves_what_the_run_was_made_with() -> None:
    Path("mobileclf.toml").write_text('backbone = "mobilenet_v2"')
    assert again({"data": "d", "image_size": 160}).image_size == 160
    assert again({"data": "d", "image_size": 160}, backbone="small_cnn").image_size == 64


def test_other_data_have_a_form_and_groups_of_their_own() -> None:
    first = {"data": "d", "form": "pixel-csv", "shape": "8,8,1", "classes": "a,b", "harmful": "a"}
    assert again(first).channels == again(first, data="d").channels == 1
    found = again(first, data="other")
    assert (found.form, found.shape, found.classes, found.harmful) == (None,) * 4
    assert found.channels == 3


def test_weights_bring_their_own_way_of_training() -> None:
    found = again({"data": "d", "backbone": "mobilenet_v2"}, weights="none")
    assert (found.augment, found.dropout) == ("flip,rotate=15,translate=0.06", 0.0)


def test_a_recipe_goes_with_other_data_too() -> None:
    found = again({"data": "d", "recipe": "seed-pixels"}, data="other")
    assert (found.form, found.shape, found.recipe) == ("pixel-csv", "100,100,3", "seed-pixels")
    assert again({"data": "d", "recipe": "seed-digits"}, data="other").channels == 1


def test_the_same_folder_is_the_same_data_however_it_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for other in (tmp_path / "d", "./d", "d/../d"):
        assert again({"data": "d", "group_by": "x", "harmful": "a"}, data=other).group_by == "x"


def test_costs_are_a_table_or_one_text() -> None:
    Path("mobileclf.toml").write_text(
        'policy = "min-cost"\n[costs]\nmissed = 20\nfalse-alarm = 0.5\n'
    )
    settings = make_settings({})
    assert settings.costs == "missed=20,false-alarm=0.5"
    costs = costs_of(settings.costs)
    assert (costs.missed, costs.false_alarm, costs.abstain) == (20, 0.5, 5)
    assert make_settings({"costs": {"false_alarm": 2}}).costs == "false-alarm=2"
    assert make_settings(as_record(settings)) == settings


def test_the_costs_that_stand_there_are_the_defaults_of_the_statistics() -> None:
    from mobileclf.stats.operating_point import Costs

    assert costs_of(Settings().costs) == costs_of("missed=100") == Costs()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tpr": 0.9}, "--tpr: it goes with --policy fix-tpr; found --policy youden, --abs"),
        ({"policy": "fix-fpr", "tpr": 0.9}, "--tpr: it goes with --policy fix-tpr; found --policy"),
        ({"policy": "fix-tpr", "fpr": 0.1}, "--fpr: it goes with --policy fix-fpr"),
        ({"most_missed": 0.1}, "--most-missed: it goes with --policy guarantee"),
        ({"policy": "max-f1", "confidence": 0.9}, "--confidence: it goes with --policy guarantee"),
        ({"answer_rate": 0.9}, "--answer-rate: it goes with --abstain largest, margin or score"),
        ({"costs": "missed=5"}, "--costs: it goes with --policy min-cost, or --abstain without"),
        ({"costs": "missed=5", "abstain": "score", "answer_rate": 0.9}, "--costs: it goes with"),
    ],
)
def test_what_would_have_no_effect_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        make_settings(given)
    lines = [f"{name} = {value!r}\n" for name, value in given.items()]
    Path("mobileclf.toml").write_text("".join(lines))
    if "costs" in given:  # a project's own, which stand there for whoever asks for them
        assert make_settings({}).costs == given["costs"]
        return
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        make_settings({})


@pytest.mark.parametrize(
    "given",
    [
        {"policy": "fix-tpr", "tpr": 0.9},
        {"policy": "fix-fpr", "fpr": 0.1},
        {"policy": "guarantee", "most_missed": 0.05, "confidence": 0.9},
        {"policy": "min-cost", "costs": "missed=5"},
        {"abstain": "margin", "costs": "missed=5"},
        {"abstain": "margin", "answer_rate": 0.9},
        {"policy": "min-cost", "abstain": "margin", "answer_rate": 0.9, "costs": "missed=5"},
    ],
)
def test_what_has_an_effect_is_taken(given: dict[str, Any]) -> None:
    settings = make_settings(given)
    assert {name: getattr(settings, name) for name in given} == given
    assert again({"data": "d", **given}) == make_settings({"data": "d", **given})


@pytest.mark.parametrize("release", ["2", "2.x", "2.14.1.1", "2.1444", "", "v2.14"])
def test_a_minimum_runtime_is_a_release(release: str) -> None:
    with pytest.raises(UsageError, match="wanted a release of TensorFlow Lite, as 2.14"):
        make_settings({"min_runtime": release})
    assert make_settings({"min_runtime": "2.14.0"}).min_runtime == "2.14.0"


def test_latency_is_measured_beside_a_baseline() -> None:
    with pytest.raises(UsageError, match="give --baseline too"):
        make_settings({"latency": 5})
    given = {"data": "d", "baseline": "b", "latency": 5, "junit": "j.xml", "markdown": "m.md"}
    assert make_settings(given).latency == 5
    # All of one command: the next one on the run does not go on with them.
    assert {"baseline", "latency", "junit", "markdown"} <= set(config.OF_COMMAND)


def test_another_policy_takes_the_rate_of_the_first_away() -> None:
    first = {"data": "d", "policy": "fix-tpr", "tpr": 0.9, "abstain": "margin", "answer_rate": 0.8}
    found = again(first, policy="youden")
    assert (found.tpr, found.abstain, found.answer_rate) == (0.95, "margin", 0.8)
    found = again(first, abstain="none")
    assert (found.tpr, found.answer_rate) == (0.9, None)
    # Also over a file that has one; what it has otherwise stays refused.
    Path("mobileclf.toml").write_text('policy = "fix-tpr"\ntpr = 0.9\n')
    assert make_settings({"policy": "max-f1"}).policy == "max-f1"
    with pytest.raises(UsageError, match="--fpr"):
        make_settings({"policy": "max-f1", "fpr": 0.1})
