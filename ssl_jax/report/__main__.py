"""The command that writes the report of one run, or of several compared."""

from ssl_jax import command, report


def main(options) -> None:
    print(f"report: {report.write(options.workdir, options.out)}")


def parser() -> command.Parser:
    parser = command.Parser("report", "Writes the report of a run as one HTML file, or of several runs compared.")
    parser.add_argument(
        "--workdir", action="append", required=True, metavar="DIR", help="of a run; several times to compare runs"
    )
    parser.add_argument(
        "--out",
        metavar="HTML",
        help="the file to write; default: in the first workdir, report.html, or comparison.html of several runs",
    )
    return parser


if __name__ == "__main__":
    command.run(main, parser())
