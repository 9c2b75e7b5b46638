"""The demo's picture: errors are not drawn where there are none, and nothing is cut off at its edge."""

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cross_view_loc.aerial.patch import Patch
from cross_view_loc.evaluation import pictures
from cross_view_loc.evaluation.pictures import REFUSED, Track, broken, draw_demo


def test_no_line_over_gaps_and_refused_moments():
    times_s = np.array([0.0, 0.2, 0.4, 2.0, 2.2])
    drawn, errors = broken(times_s, np.arange(5.0))
    assert np.isnan(errors).nonzero()[0].tolist() == [3]
    assert 0.4 < drawn[3] < 2.0
    drawn, errors = broken(times_s, np.arange(5.0), refused_s=[1.0, 1.2, 0.3])
    assert np.isnan(errors).nonzero()[0].tolist() == [2, 4]
    assert np.all(np.diff(drawn) > 0)
    assert errors[~np.isnan(errors)].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert broken(times_s[:1], np.zeros(1))[1].tolist() == [0.0]


def test_the_picture_marks_refused_moments_and_cuts_no_label(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(pictures, "save_jpeg", lambda figure, path: kept.append(figure))
    patch = Patch(np.zeros((50, 50, 3), np.uint8), np.ones((50, 50), bool), 0.0, 0.0, 2.0)
    times_s = np.arange(40) / 5 + 1e9
    places = np.stack([times_s - 1e9, np.zeros(40)], axis=1)
    track = Track(times_s, places, np.tile(np.eye(2), (40, 1, 1)), np.full(40, 12.5))
    draw_demo(tmp_path / "demo.jpg", "title", patch, track, track, track, None, [times_s[5] + 0.1])
    (figure,) = kept
    FigureCanvasAgg(figure).draw()
    axes = next(axes for axes in figure.axes if "error" in axes.get_title("left"))
    marks = [line for line in axes.lines if line.get_color() == REFUSED]
    assert [line.get_xdata().tolist() for line in marks] == [[times_s[5] + 0.1 - times_s[0]]]
    assert min(label.get_window_extent().x0 for label in axes.get_yticklabels()) > 6.0


def test_the_jpeg_is_written(tmp_path):
    patch = Patch(np.zeros((50, 50, 3), np.uint8), np.ones((50, 50), bool), 0.0, 0.0, 2.0)
    track = Track(np.arange(3.0), np.eye(3)[:, :2], None, np.ones(3))
    draw_demo(tmp_path / "demo.jpg", "title", patch, track, track, track, None)
    assert cv2.imread(str(tmp_path / "demo.jpg")).shape == (900, 1600, 3)
