"""A folder takes another's place whole, with the system's exchange or without."""

from __future__ import annotations

import pytest

from mobileclf import exchange


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.fixture(params=[True, False], ids=["exchange", "renames"])
def exchanging(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)


def test_in_an_empty_place(tmp_path, exchanging):
    target = tmp_path / "x"
    exchange.put_in_place(folder(exchange.building_place(target), "new"), target)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_over_another(tmp_path, exchanging):
    target = folder(tmp_path / "x", "old")
    exchange.put_in_place(folder(exchange.building_place(target), "new"), target)
    assert (target / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_cut_off_between_two_renames_the_old_one_comes_back(tmp_path):
    target = folder(tmp_path / "x", "old")
    target.rename(exchange._aside(target))
    exchange.repair(target)
    assert (target / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_cut_off_after_two_renames_the_new_one_stays(tmp_path):
    target = folder(tmp_path / "x", "new")
    folder(exchange._aside(target), "old")
    exchange.repair(target)
    assert (target / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_an_earlier_build_left_is_gone(tmp_path):
    target = tmp_path / "x"
    folder(exchange.building_place(target), "half")
    assert not exchange.building_place(target).exists()
