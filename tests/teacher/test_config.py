"""Configurations are frozen, saved, and read back strictly."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from ecg.errors import InputError
from teacher.config import PRESETS, DecoderConfig, LossConfig, load_config, preset, save_config


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    save_config(preset(name), tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == preset(name)


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        preset("small").width = 3  # type: ignore[misc]


def test_paper_is_what_the_paper_says() -> None:
    paper = preset("paper")
    assert (paper.image.height_px, paper.image.width_px) == (336, 336)
    assert paper.image.lora.rank > 0
    assert (paper.signal.kind, paper.text.kind) == ("dbeta", "medcpt")


def test_small_needs_no_file() -> None:
    small = preset("small")
    assert {small.image.weights, small.signal.weights, small.text.weights} == {""}
    assert small.data.sources == ("synthetic",)


def test_unknown_names_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of small, paper"):
        preset("huge")
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match=r"config\.json"):
        load_config(path)
    save_config(preset("small"), path)
    raw = json.loads(path.read_text())
    raw["image"]["colour"] = "red"
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match="colour"):
        load_config(path)


def test_values_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="patch"):
        DecoderConfig(patch=33)
    with pytest.raises(ValueError, match="heads"):
        DecoderConfig(width=190)
    with pytest.raises(ValueError, match="not all 0"):
        LossConfig(0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="0 or more"):
        replace(LossConfig(), gramian=-1.0)
