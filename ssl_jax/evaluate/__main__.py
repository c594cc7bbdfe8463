"""The command that evaluates what was learned: `python -m ssl_jax.evaluate --workdir=DIR --protocol=knn,linear`."""

import inspect
import pathlib
from typing import Any

import jax

from ssl_jax import command, parallel, report
from ssl_jax.config import NAMES, parse
from ssl_jax.errors import UserError, suggest
from ssl_jax.evaluate import opening, records
from ssl_jax.evaluate.protocols import PROTOCOLS, Protocol
from ssl_jax.evaluate.subject import RawPixels
from ssl_jax.fields import Field, fault, fields, member


def main(options) -> None:
    protocols = settle(options)
    if options.compare:
        ours, theirs = (pathlib.Path(folder).expanduser() for folder in options.compare)
        print(*records.compare(ours, theirs, list(protocols)), sep="\n")
        return
    if not protocols:
        raise UserError(f"--protocol is not given; name one or several of {', '.join(PROTOCOLS)}")
    parallel.start()
    mesh = parallel.make_mesh()
    if options.weights:
        judged = opening.judge_weights(options.weights, options.data, mesh, options.overrides)
    else:
        judged = opening.judge_run(options.workdir, options.data, mesh, options.overrides)
    for name, protocol in protocols.items():
        opening.check(name, protocol, judged.subjects[0])
    folder = command.writable_folder(options.out or judged.folder)
    for name, protocol in protocols.items():
        subjects = [one for one in judged.subjects if protocol.on_pixels or not isinstance(one, RawPixels)]
        results = {subject.title: protocol(subject) for subject in subjects}
        record = records.record(name, protocol, judged, results)
        if jax.process_index() == 0:
            records.save(folder, name, record, next(iter(results.values())))
            print(*records.lines(name, record), sep="\n")
    if jax.process_index() == 0 and not options.weights and (folder / "report.html").exists():
        report.write([folder])


def settle(options) -> dict[str, Protocol]:
    """Returns the protocols that are asked for, by name, with their settings.

    Raises:
        UserError: if a protocol is unknown, a setting is out of its range or of a protocol that is not asked for.
    """
    names = [name for name in (options.protocol or "").split(",") if name]
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"unknown protocol {name!r}; {suggest(name, PROTOCOLS)}")
    given = {key: text for key, text in vars(options).items() if "." in key and text is not None}
    for key in given:
        if key.split(".")[0] not in names:
            raise UserError(f"--{key} is given, but not its protocol; add {key.split('.')[0]} to --protocol")
    return {name: make(name, given) for name in names}


def make(name: str, given: dict[str, str]) -> Protocol:
    """Returns a protocol with the settings that are given as text under PROTOCOL.FIELD."""
    values = {}
    for field, about in fields(PROTOCOLS[name]).items():
        key = f"{name}.{field}"
        if key in given:
            values[field] = read(key, given[key], about)
        value = values.get(field, about.default)
        if value is not None and (advice := fault(value, about.rules)):
            raise UserError(f"--{key} is {given.get(key, 'not given')}; set it to {advice}")
    return PROTOCOLS[name](**values)


def read(key: str, text: str, about: Field) -> Any:
    """Returns the value that a text of the command line stands for; members of a tuple are between commas.

    Raises:
        UserError: if it is of another type.
    """
    one = member(about.annotation) or about.kind
    try:
        if about.kind is tuple:
            return tuple(parse(word, one) for word in text.split(",") if word)
        return parse(text, one)
    except (ValueError, KeyError):
        raise UserError(f"--{key} takes {NAMES.get(one, one.__name__)}, not {text!r}") from None


def parser() -> command.Parser:
    parser = command.Parser(
        "evaluate",
        "Evaluates what a run has learned, beside raw pixels and its random initialisation.\n"
        "What its config says of evaluation can be changed, as in --config.evaluate.feature=projection.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", metavar="DIR", help="the workdir of a trained run")
    what.add_argument("--weights", metavar="FILE", help="published weights, see ssl_jax.import_weights")
    what.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two evaluated workdirs: is A better than B?")
    parser.add_argument("--protocol", metavar="NAME[,NAME]", help=f"one or several of {', '.join(PROTOCOLS)}")
    parser.add_argument("--data", metavar="SOURCE", help="labelled images; default: those of the run")
    parser.add_argument("--out", metavar="DIR", help="where results go; default: the workdir, or beside the weights")
    for name, protocol in PROTOCOLS.items():
        group = parser.add_argument_group(name, inspect.getdoc(protocol))
        for field, about in fields(protocol).items():
            default = " ".join(map(str, about.default)) if isinstance(about.default, tuple) else about.default
            group.add_argument(f"--{name}.{field}", metavar=about.kind.__name__, help=f"default: {default}")
    return parser


if __name__ == "__main__":
    command.run(main, parser())
