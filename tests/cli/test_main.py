"""The command as a program: help is quick, errors are one line, exit codes mean what the help says."""

import json
import os
import subprocess
import sys

import click
import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner

import hmsa_label
from hmsa_label import EngineError
from hmsa_label.cli.main import main
from hmsa_label.cli.options import command
from hmsa_label.stores.errors import LabelMissing, StoreConflict

HEAVY = ("torch", "ray", "zarr", "pyarrow", "numpy", "cv2", "deltalake", "fsspec", "s3fs", "yaml", "tqdm", "PIL")


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["run", "--help"], ["audit", "verify", "--help"]])
def test_help_and_version_import_nothing_heavy(args):
    code = (
        "import sys\nfrom hmsa_label.cli.main import main\n"
        f"try:\n    main({args!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_installed_command_prints_the_version():
    line = [sys.executable, "-c", "from hmsa_label.cli.main import main; main()", "--version"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"hmsa-label {hmsa_label.__version__}\n"


def test_every_command_in_the_table_can_be_imported():
    ctx = click.Context(main)
    assert all(main.get_command(ctx, name) is not None for name in main.list_commands(ctx))


def test_unknown_command_suggests_the_nearest(call):
    result = call("audti")
    assert result.exit_code == 2
    assert "no command 'audti'; did you mean 'audit'?" in result.stderr


def failing(error):
    """A command of ours that ends in an error."""

    @command("fail", example="fail")
    def fail(as_json):
        print("noise from a library")
        raise error

    return lambda *args: CliRunner().invoke(fail, args)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("scales must be\n  positive"), "Error: scales must be positive"),
        (StoreConflict("another run finished first"), "Error: another run finished first"),
        (LabelMissing("no label for 'a'"), "Error: no label for 'a'"),
        (ValueError("cannot open s3://me:hunter2@host/b"), "Error: cannot open s3://host/b"),
        (PermissionError(13, "Permission denied", "/x"), "Error: Permission denied: /x"),
        (ConnectionRefusedError("refused"), "Error: refused (--debug shows where)"),
        (
            EndpointConnectionError(endpoint_url="http://h:1"),
            'Error: the storage does not answer: Could not connect to the endpoint URL: "http://h:1"; check the URL, '
            "the network and AWS_ENDPOINT_URL",
        ),
        (RuntimeError("boom"), "Error: unexpected RuntimeError: boom (--debug shows where)"),
    ],
)
def test_error_is_one_line_on_stderr_with_exit_code_2(error, line):
    result = failing(error)()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"noise from a library\n{line}\n"


def the_object(result):
    """What a failed call with --json left on stdout, which must be one object with three keys."""
    document = json.loads(result.stdout)
    assert list(document) == ["error", "hint", "exit_code"]
    assert document["exit_code"] == result.exit_code
    return document


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (ValueError("unknown device 'gpu'; use cuda"), "unknown device 'gpu'; use cuda", "use cuda"),
        (ValueError("expected auto or cpu; got 'gpu'"), "expected auto or cpu; got 'gpu'", None),
        (ValueError("the file is empty"), "the file is empty", None),
        (EngineError("2 images failed. Is the data root complete"), None, "Is the data root complete"),
        (RuntimeError("boom"), "unexpected RuntimeError: boom (--debug shows where)", "--debug shows where"),
        (ValueError("cannot open s3://me:hunter2@host/b"), "cannot open s3://host/b", None),
        (ValueError("cannot read " + os.fsdecode(b"stra\xdfe.png")), "cannot read stra\\udcdfe.png", None),
    ],
)
def test_with_json_an_error_is_the_one_object_on_stdout(error, text, hint):
    result = failing(error)("--json")
    document = the_object(result)
    assert document["error"] == (text or str(error))
    assert document["hint"] == hint
    assert result.stderr.splitlines()[-1] == f"Error: {document['error']}"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["rnu"], "no command 'rnu'; did you mean 'run'?"),
        (["run", "--thresold", "0.8"], "No such option '--thresold'."),
        (["run", "--threshold", "high"], "Invalid value for '--threshold'"),
        (
            ["run", "--data", "d", "--weights", "w", "--store", "s", "--threshold", "1.5"],
            "threshold must lie between 0 and 1",
        ),
        (["run"], "Missing option '--data'"),
        (["runs", "--store", "s", "words"], "unexpected extra argument"),
        (["audit"], "No such option '--json'"),
        (["audit", "shwo"], "no command 'shwo'"),
        (["audit", "log", "--config", "/nowhere.yaml"], "cannot read the settings file /nowhere.yaml"),
        (["explain"], "Missing argument 'IMAGE'"),
        *(([name], "Missing option") for name in ("train-teacher", "train-student", "evaluate", "status", "compare")),
        (["audit", "trace", "/nowhere.safetensors"], "/nowhere.safetensors"),
    ],
)
def test_wrong_usage_is_one_line_and_with_json_one_object(call, args, error):
    result = call(*args, "--json")
    assert result.exit_code == 2
    assert error in the_object(result)["error"]
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert call(*args).stdout == "" or args == ["audit"]


def test_json_asked_for_by_the_environment_holds_for_errors_too(call, monkeypatch):
    monkeypatch.setenv("HMSA_LABEL_JSON", "1")
    assert "Missing option" in the_object(call("run"))["error"]
    monkeypatch.setenv("HMSA_LABEL_JSON", "0")
    assert call("run").stdout == ""


def test_debug_shows_the_traceback_without_credentials():
    result = failing(ValueError("cannot open s3://me:hunter2@host/b"))("--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "hunter2" not in result.stderr


def test_ctrl_c_ends_with_130_and_says_that_work_is_kept():
    result = failing(KeyboardInterrupt())("--json")
    assert the_object(result)["error"] == "Interrupted; finished work is kept."
    assert result.exit_code == 130
    assert result.stderr.endswith("\nInterrupted; finished work is kept.\n")
