"""What scoring depends on."""

from __future__ import annotations

from mobileclf.stages.score import STAGE


def test_what_the_scores_depend_on():
    assert {"image_size", "channels"} <= set(STAGE.settings)
    assert "cluster" not in STAGE.settings  # where it is worked out changes nothing
