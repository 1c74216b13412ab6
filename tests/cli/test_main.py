"""The command as a program: help is quick, errors are one line, exit codes mean what the help says."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import hmsa_label
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
        (RuntimeError("boom"), "Error: unexpected RuntimeError: boom (--debug shows where)"),
    ],
)
def test_error_is_one_line_on_stderr_with_exit_code_2(error, line):
    result = failing(error)("--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"noise from a library\n{line}\n"


def test_debug_shows_the_traceback_without_credentials():
    result = failing(ValueError("cannot open s3://me:hunter2@host/b"))("--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "hunter2" not in result.stderr


def test_ctrl_c_ends_with_130_and_says_that_work_is_kept():
    result = failing(KeyboardInterrupt())()
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.endswith("Interrupted; finished work is kept.\n")
