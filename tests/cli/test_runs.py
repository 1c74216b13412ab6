"""`runs` and `status`: tables for people, the same as JSON."""

import shutil


def test_runs_and_status_show_a_finished_run(call, call_json, labeled_tree, tmp_path):
    root = shutil.copytree(labeled_tree, tmp_path / "copy")
    listed = call_json("runs", "--store", root / "labels")["runs"]
    assert [(run["state"], run["images_done"], run["images_total"]) for run in listed] == [("finished", 5, 5)]
    status = call_json("status", "--store", root / "labels", listed[0]["run"])
    assert status["images_done"] == 5
    assert status["last_failures"] == []
    table = call("runs", "--store", root / "labels").stdout
    assert listed[0]["run"] in table
    assert "finished" in table
    shown = call("status", "--store", root / "labels").stdout
    assert "5 of 5 done, 0 failed" in shown


def test_runs_and_status_show_what_a_rethreshold_made(call, call_json, labeled_tree, tmp_path):
    store = shutil.copytree(labeled_tree, tmp_path / "copy") / "labels"
    version = call_json("rethreshold", "--store", store, "--threshold", 0.8)["version"]
    shown = call("status", "--store", store).stdout
    assert "threshold  0.8\nimages     5 of 5 done, 0 failed" in shown
    assert f"version    {version}\n" in shown
    listed = call_json("runs", "--store", store)["runs"]
    found = [(run["kind"], run["images_done"], run["threshold"], run["rule"]) for run in listed]
    assert found == [("rethreshold", 5, 0.8, None), ("label", 5, 0.9, None)]


def test_status_of_an_unknown_run_is_one_line(call, labeled_tree):
    result = call("status", "--store", labeled_tree / "labels", "nonsense")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "has no run nonsense" in result.stderr
