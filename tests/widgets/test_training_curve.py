"""A training curve draws what is in the log, for every reader."""

from labkit.widgets.training_curve import TrainingCurve


def test_each_figure_gets_a_chart_once_it_has_two_points() -> None:
    curve = TrainingCurve()
    curve.add({"step": 0, "success": 0.4, "score": 0.4})
    assert repr(curve) == "no step yet" and curve.charts() == []
    for step in range(1, 6):
        curve.add({"step": step, "reward": step / 5, "kl": 0.01 * step})
    curve.add({"step": 6, "reward": 1.0, "kl": 0.07, "success": 0.9, "score": 0.9})
    curve.draw()
    assert [chart.y_title for chart in curve.charts()] == ["reward", "success", "kl"]
    assert curve.value.count("<svg") == 3 and "held-out tasks that succeed" in curve.value
    assert "reward: 6 steps from 1 to 6" in repr(curve)


def test_it_is_not_drawn_more_often_than_a_reader_can_see() -> None:
    curve, drawn = TrainingCurve(), []
    curve.observe(lambda change: drawn.append(change["new"]), "value")
    for step in range(500):
        curve.add({"step": step, "loss": 1 / (step + 1)})
    assert len(drawn) < 50 and len(curve.entries) == 500
