"""What made a dataset is written down whoever is killed, and says what differs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.makers import forget, mixtures, sign, this_process, with_makers
from shards import Manifest, Store

EMPTY = Manifest(state="building", config={})
ONE, OTHER = {"torch": "2.13.0", "device": "CPU"}, {"torch": "2.12.0", "device": "CPU"}


def test_versions_instruction_set_and_device_are_told(monkeypatch: pytest.MonkeyPatch):
    told = this_process()
    assert {"fluxshard", "Python", "torch", "OpenCV", "PyAV", "FFmpeg", "numpy"} <= told.keys()
    assert told["device"] == "CPU"
    assert "fluxshard's code" not in told
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
    other = this_process()
    assert {name for name in told if told[name] != other[name]} == {"instruction set"}
    assert other["instruction set"].endswith(" OTHER")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU at {device}")
    assert this_process(torch.device("cuda"))["device"] == "GPU at cuda"


def test_each_maker_is_in_the_manifest_once_in_whatever_order_they_came(tmp_path: Path):
    signed = [{"clips": [ONE], "dis": [ONE]}, {"clips": [OTHER, ONE], "dis": []}]
    manifests = []
    for number, order in enumerate((signed, signed[::-1], signed * 2)):
        store = Store(tmp_path / str(number))
        for made in order:
            sign(store, made)
        assert len(store.files("makers")) == 2
        manifests.append(with_makers(store, EMPTY))
        assert with_makers(store, manifests[-1]) == manifests[-1]
        forget(store)
        assert store.files() == []
    assert manifests[0] == manifests[1] == manifests[2]
    made_by = manifests[0].made_by
    assert {name: len(makers) for name, makers in made_by.items()} == {"clips": 2, "dis": 1}
    assert json.loads(json.dumps(manifests[0].to_json()))["made_by"]["dis"] == [ONE]


def test_a_mixture_is_a_warning_that_says_what_differs():
    made = replace(EMPTY, made_by={"clips": (ONE, OTHER), "dis": (ONE,)})
    (warning,) = mixtures(made)
    assert warning.startswith("clips: made by 2 kinds of process, which differ in torch (2.1")
    assert "device" not in warning
