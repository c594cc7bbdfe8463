"""The command that writes the report of one run, or a comparison of several."""

from ssl_jax import command, report


def main(options) -> None:
    print(f"report: {report.write(options.workdir, options.out)}")


def parser() -> command.Parser:
    parser = command.Parser("report", "Writes the report of a run, or a comparison of several runs, as one HTML file.")
    parser.add_argument(
        "--workdir",
        action="append",
        required=True,
        metavar="DIR",
        help="the workdir of a run; repeat it to compare runs",
    )
    parser.add_argument(
        "--out",
        metavar="HTML",
        help="the file to write; default: report.html in the first workdir, comparison.html for several runs",
    )
    return parser


if __name__ == "__main__":
    command.run(main, parser())
