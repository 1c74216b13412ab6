"""The `hmsa-label` command: a group that finds its commands by name and imports each only when it is called."""

import click

from hmsa_label.cli.command import LazyGroup
from hmsa_label.cli.settings import PREFIX

COMMANDS = {
    "demo": "hmsa_label.cli.commands.demo:demo",
    "train-teacher": "hmsa_label.cli.commands.train:train_teacher",
    "train-student": "hmsa_label.cli.commands.train:train_student",
    "train-trunk": "hmsa_label.cli.commands.train:train_trunk",
    "compare": "hmsa_label.cli.commands.compare:compare",
    "evaluate": "hmsa_label.cli.commands.evaluate:evaluate",
    "calibrate": "hmsa_label.cli.commands.calibrate:calibrate",
    "explain": "hmsa_label.cli.commands.explain:explain",
    "run": "hmsa_label.cli.commands.label:run",
    "import": "hmsa_label.cli.commands.imports:import_",
    "runs": "hmsa_label.cli.commands.runs:runs",
    "status": "hmsa_label.cli.commands.runs:status",
    "rethreshold": "hmsa_label.cli.commands.versions:rethreshold",
    "export": "hmsa_label.cli.commands.versions:export",
    "audit": "hmsa_label.cli.commands.audit:audit",
}


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from hmsa_label import __version__

        click.echo(f"hmsa-label {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    places=COMMANDS,
    context_settings={"auto_envvar_prefix": PREFIX, "help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def main() -> None:
    """Label driving images with a teacher network, and keep the labels versioned and auditable.

    \b
    Start without data, weights or a GPU:   hmsa-label demo
    Then with your own:                     hmsa-label run --data DIR --weights FILE --store DIR

    Exit codes: 0 done; 1 done, but images failed or a check found problems; 2 bad usage or input;
    130 interrupted, finished work is kept; 141 the reader of the output left.
    """
