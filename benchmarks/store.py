"""Figures of the label store: pixels against PNG and zarr, a manifest of a million rows, concurrent commits.

python benchmarks/store.py pixels --output benchmarks/results/store_pixels.md
python benchmarks/store.py zarr --output benchmarks/results/store_zarr.md
python benchmarks/store.py manifest --rows 1000 20000 1000000 --output benchmarks/results/store_manifest.md
python benchmarks/store.py commits --output benchmarks/results/store_commits.md
"""

import argparse

from results_page import publish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the stores are put for a while; default: the system's temporary folder")
    commands = parser.add_subparsers(dest="command", required=True)
    pixels = commands.add_parser("pixels", help="bytes, writing, whole reads and crops against PNG, on disk and on S3")
    by_zarr = commands.add_parser("zarr", help="writing, whole reads and crops against zarr's API, on disk and on S3")
    for command in (pixels, by_zarr):
        command.add_argument("--images", type=int, default=16)
        command.add_argument("--rounds", type=int, default=5)
    manifest = commands.add_parser("manifest", help="open, diff, commit and peak memory by the number of rows")
    manifest.add_argument("--rows", type=int, nargs="+", default=[1_000, 20_000, 1_000_000])
    commits = commands.add_parser("commits", help="processes that commit at once, on disk and on S3")
    commits.add_argument("--processes", type=int, default=6)
    commits.add_argument("--commits", type=int, default=10, help="of each process")
    for command in (pixels, by_zarr, manifest, commits):
        command.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    publish(result(arguments), arguments.output)


def result(arguments: argparse.Namespace) -> str:
    """The result page of the command that was asked for."""
    if arguments.command == "pixels":
        import store_pixels

        return store_pixels.measure(arguments.folder, arguments.images, arguments.rounds)
    if arguments.command == "zarr":
        import store_zarr

        return store_zarr.measure(arguments.folder, arguments.images, arguments.rounds)
    if arguments.command == "manifest":
        import store_manifest

        return store_manifest.measure(arguments.folder, arguments.rows)
    import store_commits

    return store_commits.measure(arguments.folder, arguments.processes, arguments.commits)


if __name__ == "__main__":
    main()
