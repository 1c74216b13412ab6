"""Where values come from: command line, then environment, then settings file, then default."""

from pathlib import Path

import click
import pytest

from hmsa_label.cli.main import main
from hmsa_label.cli.parameters import AsGiven
from hmsa_label.cli.settings import settings_of

NEEDED = ("--data", "d", "--weights", "w", "--store", "s")


@pytest.fixture
def settings_file(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_each_source_of_a_value_gives_way_to_the_next_stronger_one(values_of, settings_file, monkeypatch):
    file = settings_file("threshold: 0.6\nrun:\n  threshold: 0.65\n")
    steps = [values_of("run", *NEEDED)]
    steps.append(values_of("run", *NEEDED, "--config", file))
    monkeypatch.setenv("HMSA_LABEL_THRESHOLD", "0.7")
    steps.append(values_of("run", *NEEDED, "--config", file))
    monkeypatch.setenv("HMSA_LABEL_RUN_THRESHOLD", "0.75")
    steps.append(values_of("run", *NEEDED, "--config", file))
    steps.append(values_of("run", *NEEDED, "--config", file, "--threshold", "0.8"))
    assert [step["threshold"] for step in steps] == [None, 0.65, 0.7, 0.75, 0.8]


def test_with_data_weights_and_store_in_the_environment_a_threshold_is_enough(values_of, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", "/data/cityscapes")
    monkeypatch.setenv("HMSA_LABEL_WEIGHTS", "teacher.safetensors")
    monkeypatch.setenv("HMSA_LABEL_STORE", "s3://labels/one")
    values = values_of("run", "--threshold", "0.9")
    assert (values["data"], values["weights"], values["store"]) == (
        "/data/cityscapes",
        "teacher.safetensors",
        "s3://labels/one",
    )


def test_own_variable_for_data_wins_over_that_of_cityscapes_scripts(values_of, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", "/one")
    monkeypatch.setenv("HMSA_LABEL_DATA", "/two")
    assert values_of("run", *NEEDED[2:])["data"] == "/two"


def test_every_option_of_every_command_can_come_from_its_own_variable(values_of, monkeypatch, tmp_path):
    """Sets each option of each command by HMSA_LABEL_<COMMAND>_<OPTION>, one at a time."""
    for name in ("run", "evaluate", "train-teacher", "demo", "rethreshold", "audit log", "audit verify", "audit gc"):
        needed = [arg for option in _options(name) if option.required for arg in (option.opts[0], "7")]
        for option in _options(name):
            if option.setting == "config":
                continue
            variable = f"HMSA_LABEL_{name}_{option.setting}".replace("-", "_").replace(" ", "_").upper()
            given, expected = _example(option)
            with monkeypatch.context() as patch:
                patch.setenv(variable, given)
                rest = _without(needed, option.opts[0])
                if option.expose_value:
                    assert values_of(name, *rest)[option.name] == expected, variable


@pytest.mark.parametrize(("key", "kind"), [("threshold", "float"), ("grow-px", "integer"), ("batch-size", "integer")])
def test_list_in_the_place_of_a_number_is_one_line_that_names_the_file(call, settings_file, key, kind):
    result = call("run", *NEEDED, "--config", settings_file(f"{key}: [1, 2]"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for '--{key}': [1, 2] is not a valid {kind} (from " in result.stderr


def test_settings_file_itself_can_be_named_in_the_environment(values_of, settings_file, monkeypatch):
    monkeypatch.setenv("HMSA_LABEL_CONFIG", settings_file("{data: d, weights: w, store: s, scales: [0.5, 1.0]}"))
    assert values_of("run")["scales"] == (0.5, 1.0)


def test_keys_at_the_top_reach_every_command_that_has_them_and_no_other(values_of, settings_file):
    file = settings_file("store: common\nseed: 7\nbatch_size: 3\n")
    assert values_of("run", *NEEDED[:4], "--config", file)["store"] == "common"
    assert values_of("audit log", "--config", file)["store"] == "common"
    assert values_of("train-teacher", "--data", "d", "--output", "o", "--config", file)["batch_size"] == 3


def test_nested_sections_reach_the_command_below_the_group(values_of, settings_file):
    file = settings_file("audit:\n  store: for-all\n  verify:\n    deep: false\n")
    values = values_of("audit verify", "--config", file)
    assert (values["store"], values["deep"]) == ("for-all", False)
    assert values_of("audit log", "--config", file)["store"] == "for-all"


def test_storage_options_come_from_a_section_of_the_file_and_not_from_the_command_line(values_of, settings_file, call):
    file = settings_file("data-options: {anon: true}\nrun:\n  store-options:\n    key: me\n    secret: hunter2\n")
    values = values_of("run", *NEEDED, "--config", file)
    assert (values["data_options"], values["store_options"]) == ({"anon": True}, {"key": "me", "secret": "hunter2"})
    result = call("run", *NEEDED, "--store-options", '{"secret": "hunter2"}')
    assert result.exit_code == 2
    assert "no place for secrets" in result.stderr
    assert "hunter2" not in result.output


def test_null_means_none_where_a_field_may_be_none_and_not_given_elsewhere(values_of, settings_file):
    file = settings_file("train-teacher: {low-scale: null, epochs: null}")
    values = values_of("train-teacher", "--data", "d", "--output", "o", "--config", file)
    assert values["low_scale"] is None
    assert values["epochs"] == 175


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treshold: 0.9", ("unknown key 'treshold'", "did you mean 'threshold'")),
        ("run: {scale: 1}", ("unknown key 'scale' in section 'run'", "did you mean 'scales'")),
        ("audit: {verify: {depp: true}}", ("in section 'audit.verify'", "'deep'")),
        ("run: {epochs: 3}", ("unknown key 'epochs' in section 'run'",)),
        ("run: 3", ("'run' is a command",)),
        ("threshold: {a: 1}", ("'threshold' takes a value",)),
        ("- a\n- b", ("must hold keys and values",)),
        ("a: [", ("not a YAML file",)),
    ],
)
def test_mistake_in_the_settings_file_is_one_line_that_names_it(call, settings_file, text, words):
    result = call("run", "--config", settings_file(text))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in (*words, "settings.yaml"))


def test_missing_settings_file_is_named(call):
    result = call("run", "--config", "nowhere.yaml")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: cannot read the settings file nowhere.yaml: No such file or directory\n",
    )


def test_bad_value_names_where_it_came_from(call, settings_file, monkeypatch):
    result = call("run", *NEEDED, "--config", settings_file("threshold: high"))
    assert "'high' is not a valid float (from " in result.stderr
    assert "settings.yaml)" in result.stderr
    monkeypatch.setenv("HMSA_LABEL_RUN_LIMIT", "few")
    assert "(from the environment variable HMSA_LABEL_RUN_LIMIT)" in call("run", *NEEDED).stderr


def test_missing_option_says_every_way_to_give_it(call):
    stderr = call("run").stderr
    assert "Missing option '--data'. Give it, or set HMSA_LABEL_DATA or CITYSCAPES_DATASET, or 'data' in" in stderr


def test_variable_that_sets_nothing_is_warned_about(call, monkeypatch):
    monkeypatch.setenv("HMSA_LABEL_TRESHOLD", "0.9")
    stderr = call("run").stderr
    assert "HMSA_LABEL_TRESHOLD sets nothing; did you mean 'HMSA_LABEL_THRESHOLD'?" in stderr


def test_no_option_is_called_like_a_command():
    ctx = click.Context(main)
    assert not set(main.list_commands(ctx)) & set(settings_of(main))


def _options(name: str):
    command, ctx = main, click.Context(main)
    for part in name.split():
        command = command.get_command(ctx, part)
    return list(settings_of(command).values())


def _without(args: list[str], option: str) -> list[str]:
    pairs = zip(args[::2], args[1::2], strict=True)
    return [arg for pair in pairs if pair[0] != option for arg in pair]


def _example(option):
    """A value other than the default, as text and as the command gets it."""
    if option.is_flag:
        return str(not option.default), not option.default
    if isinstance(option.type, click.Choice):
        return option.type.choices[-1], option.type.choices[-1]
    if isinstance(option.type, AsGiven):
        return "what its config reads", "what its config reads"
    if option.type.name == "section":
        return '{"anon": true}', {"anon": True}
    examples = {
        "duration": ("2h", 7200.0),
        "numbers": ("0.25,1.5", (0.25, 1.5)),
        "size": ("64x96", (64, 96)),
        "text": ("there", "there"),
        "texts": ("a,b", ("a", "b")),
        "named values": ("tiles=4", {"tiles": 4}),
    }
    return examples.get(option.type.name, ("7", 7))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 3000, "is nested too deeply or too large"),
        ("run: &r {threshold: *r}\n", "is nested too deeply or too large"),
        (BOMB, "is nested too deeply or too large"),
        ("threshold: 2026-01-01\n", "datetime.date(2026, 1, 1) is neither text nor a number; put it in quotes"),
        ("threshold: !!binary aGVsbG8=\n", "b'hello' is neither text nor a number"),
        (f"threshold: {10**400}\n", "a whole number beyond 64 bits"),
        ("threshold: 1" + "0" * 5000, "is not a YAML file of settings: Exceeds the limit"),
    ],
)
def test_what_no_option_can_take_is_refused_in_one_line(call, settings_file, text, said):
    result = call("audit", "log", "--store", "nowhere", "--config", settings_file(text))
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr) < 400
