"""What a person sees is what there is: no text from users is parsed, and none is lost."""

from collections import Counter

import pytest

from fluxshard.terminal import (
    flow_lines,
    prediction_facts,
    print_facts,
    print_outcome,
    print_rejects,
    print_table,
    print_unscanned,
    progress_bars,
    say,
    write,
    write_csv,
)
from pipeline.building.costs import Costs
from pipeline.building.dry_run import Prediction
from pipeline.building.job import Outcome
from pipeline.records import Reject

AWKWARD = ["Title [dQw4w9WgXcQ].mp4", "[/old]", "[bold]x[/bold]", ":smile:", "a\\[b]", "na\u00efve"]


def reject(name: str, detail: str = "why") -> Reject:
    return Reject(path=f"/v/{name}", sha256=None, stage="probe", reason="bad", detail=detail)


def outcome(costs: Costs, failed: dict[str, str], rejects: list[Reject]) -> Outcome:
    return Outcome(inputs=3, clips=2, built=1, kept=0, failed=failed, rejects=rejects, costs=costs)


@pytest.mark.parametrize("text", AWKWARD)
def test_text_from_users_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]):
    say(text)
    say(text, text, "red")
    write(text)
    printed = capsys.readouterr()
    assert printed.err == f"{text}\n{text}: {text}\n"
    assert printed.out == f"{text}\n"


@pytest.mark.parametrize("text", AWKWARD)
def test_tables_bars_and_outcomes_keep_it_too(text: str, capsys: pytest.CaptureFixture[str]):
    name = text.replace("/", "|")
    costs = Costs(reused=Counter({("dis-1", text): 3}), warnings=frozenset({f"warned of {text}"}))
    print_rejects([reject(name, f"detail {text}")])
    print_outcome(outcome(costs, {"000001": f"failed on {text}"}, []), f"out {text}")
    print_facts({"layers": {text: "fact"}})
    with progress_bars() as show:
        show(f"build {text}", 1, 2)
    err = capsys.readouterr().err
    for part in (
        f" {name} ",
        f"detail {text}",
        f"copied from {text}\n",
        f"warning: warned of {text}\n",
        f"shard 000001 failed: failed on {text}\n",
        f"→ out {text}\n",
        f"{text}: fact",
        f"build {text}",
    ):
        assert part in err


def test_names_that_are_no_utf_8_are_escaped(capsys: pytest.CaptureFixture[str]):
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    say(name)
    write(name)
    print_rejects([reject(name)])
    print_facts({"path": name})
    print_outcome(outcome(Costs(), {"0": name}, []), name)
    printed = capsys.readouterr()
    assert printed.out == "caf\\udce9.mp4\n"
    assert printed.err.count("caf\\udce9.mp4") == 5


def test_long_lines_are_left_whole(capsys: pytest.CaptureFixture[str]):
    say("x " * 200)
    assert capsys.readouterr().err == "x " * 200 + "\n"


def test_only_the_first_of_many_are_listed(capsys: pytest.CaptureFixture[str]):
    print_rejects([])
    assert capsys.readouterr().err == ""
    print_rejects([reject(f"{n}.mp4") for n in range(23)])
    err = capsys.readouterr().err
    assert err.count(".mp4") == 20
    assert "… and 3 more, all in rejects.parquet" in err
    warned = Costs(warnings=frozenset(f"w{n:02}" for n in range(22)))
    print_outcome(outcome(warned, {}, []), "out")
    err = capsys.readouterr().err
    assert err.count("warning: w") == 20
    assert "… and 2 more like these" in err


def test_what_was_copied_and_computed_is_told_by_layer():
    costs = Costs(
        computed=Counter({"dis-1": 4}),
        reused=Counter({("dis-1", "/a"): 2, ("raft-2", "/b"): 1}),
        seconds={"decode": 1.0, "flow": 3.0},
    )
    assert flow_lines(costs) == [
        "flow dis-1: 4 fields computed, 2 copied from /a",
        "flow raft-2: 0 fields computed, 1 copied from /b",
        "work: 4.0 s (decode 25%, flow 75%)",
    ]


def test_facts_are_written_for_people(capsys: pytest.CaptureFixture[str]):
    print_facts({"clip_bytes": 3 * 2**20, "layers": {}, "rejects": {"short": 2}})
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines == ["clip bytes 3.0 MiB", "layers none", "rejects short: 2"]


def test_tables_and_csv_go_to_standard_output_as_they_are(capsys: pytest.CaptureFixture[str]):
    rows = [("[bold]a", "1"), ('b, "c"', "caf\udce9")]
    print_table(("name", "why"), rows)
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()][:2] == [["name", "why"], ["[bold]a", "1"]]
    write_csv(("name", "why"), rows)
    printed = capsys.readouterr()
    assert printed.out == 'name,why\n[bold]a,1\n"b, ""c""",caf\\udce9\n'
    assert printed.err == ""


def test_a_prediction_is_told_in_figures(capsys: pytest.CaptureFixture[str]):
    told = Prediction(
        clips=2000,
        shards=32,
        bytes={"clips": 2**20, "dis-1": 3 * 2**20},
        fields={"dis-1": 64000.0},
        copied={"dis-1": 0.25},
        core_seconds=5400,
        sampled=24,
        error=0.058,
    )
    print_facts(prediction_facts(told))
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "clips 2,000",
        "shards 32",
        "clip bytes 1.0 MiB",
        "layers dis-1: bytes: 3.0 MiB",
        "fields: 64,000, 25% of them copied",
        "core hours 1.5",
        "known from 24 clips that were built for it",
        "standard error 6% of the bytes",
    ]
    print_facts(prediction_facts(Prediction()))
    assert "layers none" in " ".join(capsys.readouterr().err.split())


def test_only_the_first_that_could_not_be_scanned_are_listed(capsys: pytest.CaptureFixture[str]):
    print_unscanned({f"{n}.mp4": "gone" for n in range(22)})
    err = capsys.readouterr().err
    assert err.count("not scanned: ") == 20
    assert "… and 2 more that could not be scanned" in err
