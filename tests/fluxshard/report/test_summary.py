"""The figures of a dataset are those of its files."""

from pathlib import Path

from fluxshard.report.summary import summarise
from shards.index import Dataset


def test_the_figures_are_those_of_the_files(demo_dataset: str):
    dataset = Dataset(demo_dataset)
    facts = summarise(dataset)
    assert facts["clips"] == len(dataset.clips) == round(facts["seconds"] * 12 / 17)
    assert facts["videos"] == 3
    assert facts["rejects"] == {"too_short": 1, "unreadable": 1}
    assert facts["shards"] == len(list(Path(demo_dataset, "clips").glob("*.tar")))
    assert {layer["estimator"] for layer in facts["layers"].values()} == {"variational", "dis"}
    for name, layer in facts["layers"].items():
        assert layer["fields"] == facts["clips"] * (16 + 8 + 4)
        tars = sum(p.stat().st_size for p in Path(demo_dataset, "flow", name).glob("*.tar"))
        assert 0 < layer["bytes"] < tars
        assert list(layer["parts"]) == [f"level {level} forward" for level in (1, 2, 4)]
        parts = layer["parts"].values()
        assert sum(part["bytes"] for part in parts) == layer["bytes"]
        assert all("FlowLoss" in part["read_by"] for part in parts)
        assert layer["of_the_clips_bytes"] == round(layer["bytes"] / facts["clip_bytes"], 2)
    clips = sum(path.stat().st_size for path in Path(demo_dataset, "clips").glob("*.tar"))
    assert 0 < facts["clip_bytes"] < clips
    assert facts["config"]["frames"] == 17
    assert facts["made_by"].keys() == {"clips", *facts["layers"]}
