"""The curves of a run say what its records say."""

import base64

import numpy as np

from fluxshard.report.charts import loss_chart, smoothed


def test_curves_are_drawn_for_light_and_dark_pages(records: list[dict]):
    chart = loss_chart(records)
    assert chart.light != chart.dark
    kind, _, data = chart.light.partition(",")
    assert kind == "data:image/svg+xml;base64"
    svg = base64.b64decode(data).decode()
    assert svg.count("<!-- ") > 10
    for label in ("stage 1, every frame", "stage 3, every 4th frame", "floor"):
        assert f"<!-- {label} -->" in svg


def test_a_run_without_flow_has_one_curve(records: list[dict]):
    plain = [{**record, "flow_error": None} for record in records]
    svg = base64.b64decode(loss_chart(plain).light.partition(",")[2]).decode()
    assert "<!-- Reconstruction loss by pyramid stage -->" in svg
    assert "FlowLoss" not in svg


def test_smoothing_keeps_a_straight_line_in_the_logarithm():
    values = np.exp(np.linspace(0, 3, 50))
    np.testing.assert_allclose(smoothed(values)[5:-5], values[5:-5])
    np.testing.assert_allclose(smoothed(np.array([7.0])), [7.0])
