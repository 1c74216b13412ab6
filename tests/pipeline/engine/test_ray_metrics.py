"""What a Ray worker counts can be scraped from the port that Ray offers to Prometheus."""

import re
import urllib.request

import pytest

from hmsa_label.pipeline.engine.events import Tick
from tests.fake_teacher import fake

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def scrape() -> dict[str, dict[str, float]]:
    """Our metrics on this host: process -> name -> value."""
    import ray

    port = ray.nodes()[0]["MetricsExportPort"]
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in re.findall(r"^(ray_hmsa_label\w+)\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        assert re.search(r'worker="\d+"', labels)
        process = re.search(r'WorkerId="(\w+)"', labels)
        assert process
        found.setdefault(process[1], {})[name] = float(value)
    return found


def test_images_are_counted_and_timed_where_prometheus_looks(drawn):
    (drawn.folder / "all" / "000.png").write_bytes(b"")
    before, samples = set(scrape()), []

    def look(event: object) -> None:
        if isinstance(event, Tick):
            samples.extend(values for process, values in scrape().items() if process not in before)

    drawn.label(fake(ms=150), executor="ray", workers=1, on_event=look)
    best = max(samples, key=lambda values: values.get("ray_hmsa_label_images_labelled_total", 0.0))
    labeled = best["ray_hmsa_label_images_labelled_total"]
    assert 1 <= labeled <= 19
    assert best["ray_hmsa_label_images_failed_total"] == 1
    assert best["ray_hmsa_label_image_seconds_count"] == labeled + 1
    assert best["ray_hmsa_label_image_seconds_sum"] > 0.15 * labeled
    assert max(values.get("ray_hmsa_label_images_in_flight", 0.0) for values in samples) >= 1
