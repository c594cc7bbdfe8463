"""All commands under one name: `ssl-jax train ...` is `python -m ssl_jax.main ...`, the others are called as there."""

import importlib
import importlib.util
import sys

from ssl_jax import command
from ssl_jax.errors import suggest

COMMANDS = {"train": "main"} | {
    name: name for name in ("preview", "see", "report", "evaluate", "embed", "export", "plan", "doctor", "replay")
}


def module_of(name: str) -> str | None:
    """Returns the module of a command, a file or a package with a `__main__`; None if this version has none."""
    spec = importlib.util.find_spec(f"ssl_jax.{COMMANDS[name]}")
    if spec and spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{spec.name}.__main__")
    return spec.name if spec else None


def main() -> None:
    """Runs the command that the first argument of the process names, with the arguments after it."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else "--help"
    module = module_of(name) if name in COMMANDS else None
    if module:
        chosen = importlib.import_module(module)
        command.run(chosen.main, chosen.parser())
        return
    known = list(filter(module_of, COMMANDS))
    if name not in ("-h", "--help"):
        command.fail(f"there is no command {name!r}; {suggest(name, known)}")
    print(f"usage: ssl-jax COMMAND ...\n\ncommands: {', '.join(known)}\n\nssl-jax COMMAND --help describes one.")


if __name__ == "__main__":
    main()
