"""What all commands share: argument parsing, one-line errors, exit codes."""

import argparse
import errno
import io
import os
import pathlib
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable

import jax

from ssl_jax.errors import UserError

USAGE = 2  # exit code of an error of the user
AGAIN = 75  # EX_TEMPFAIL of sysexits.h, exit code if nothing is wrong with the command: start it again
LOST = (
    "another process of this run has died, or can no longer be reached: see what it said last, and start the same "
    "command again on all"
)
KEPT = "all checkpoints before are kept, and the same command resumes"
# What the text of an error says about this machine, and what to do.
MACHINE = {
    os.strerror(errno.ENOSPC): f"the disk is full: make room; {KEPT}",
    os.strerror(errno.EDQUOT): f"your disk quota is used up: make room or ask for more; {KEPT}",
    os.strerror(errno.EROFS): f"the file system can only be read now: mount it anew; {KEPT}",
    os.strerror(errno.EFBIG): f"a file may not become as large: raise the limit, ulimit -f unlimited; {KEPT}",
    "exit code -7": f"a process that reads images found /dev/shm full: lower data.workers, or enlarge it; {KEPT}",
    "exit code -9": f"a process that reads images was killed, most likely for its memory: lower data.workers; {KEPT}",
}
# How communication fails.
BROKEN = re.compile(
    r"(closed|reset) by peer|Broken pipe|remote process exited|context initialization failed|^UNAVAILABLE"
)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UserError`, and returns `--config.key=value` arguments as overrides."""

    def __init__(self, module: str, description: str | None, **options):
        super().__init__(
            prog=f"python -m ssl_jax.{module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Returns the options; `overrides` is a list of (key, text), from the `--config.key=value` arguments."""
        overrides = [text for text in arguments if text.startswith("--config.")]
        for text in overrides:
            if "=" not in text:
                self.error(f"{text} has no value; write {text}=VALUE")
        options = self.parse_args([text for text in arguments if text not in overrides])
        for name, value in vars(options).items():
            if "" in (value if isinstance(value, list) else [value]):  # as of a variable of the shell that is not set
                self.error(f"--{name} is empty; give it a value, or leave it out")
        options.overrides = [tuple(text.removeprefix("--config.").split("=", 1)) for text in overrides]
        return options


def run(main: Callable[[argparse.Namespace], None], parser: Parser) -> None:
    """Runs a command with the arguments of the process.

    The exit code is 0 if `main` returns; 2, with one line on standard error, after a `UserError` or if memory, disk or
    what else this machine has runs out; 130 after Ctrl-C; and 75 if a run was asked to stop otherwise, and has saved.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    shown = sys.unraisablehook
    # Where one file of a checkpoint cannot be written, each of the others that end later says so in many lines.
    sys.unraisablehook = lambda error: None if "Event loop is closed" in str(error.exc_value) else shown(error)
    try:
        main(parser.parse(sys.argv[1:]))
    except UserError as error:
        fail(str(error))
    except MemoryError:
        fail("out of memory on the host: lower data.host_bytes, data.device_bytes, batch_size or data.workers")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if explained := explain(error):
            fail(explained)
        if not jax.distributed.is_initialized():
            raise
        if BROKEN.search(str(error)):
            fail(LOST, AGAIN)
        traceback.print_exc()
        leave(1)  # the interpreter would wait for the other processes, which wait for this one
    finally:
        sys.unraisablehook = shown


def fail(text: str, code: int = USAGE) -> None:
    """Prints one line and ends the process without waiting for threads that may still read data."""
    print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
    leave(code)


def leave(code: int) -> None:
    """Ends the process without waiting for its threads or for the other processes of the run."""
    sys.stdout.flush()
    if code != AGAIN and jax.distributed.is_initialized():
        time.sleep(1)  # JAX aborts the others when the first one has ended; so they can say what is wrong too
    os._exit(code)


def explain(error: BaseException | None) -> str | None:
    """Returns what to do about an error of the machine; None if neither it nor one before it is of this kind."""
    if isinstance(error, PermissionError):
        return f"a file may not be read or written: change its permissions; {KEPT} ({first_line(error)})"
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
            advice = "lower batch_size, data.size or the network's width, or use more devices"
            return f"out of memory: {advice} ({first_line(error)})"
        for sign, advice in MACHINE.items():
            if sign in str(error):
                return f"{advice} ({first_line(error)})"
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]


def writable_folder(text: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a folder to write into, which is made if it is missing.

    Raises:
        UserError: if it cannot be made or written into.
    """
    path = pathlib.Path(text).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(f"{path} is no folder that can be written into; name another with --out")
    return path


def writable_file(text: str) -> pathlib.Path:
    """Returns the path of a file to write.

    Raises:
        UserError: if it is a folder, or its folder does not exist or is not writable.
    """
    path = pathlib.Path(text).expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path} cannot be written: its folder does not exist or is not writable; name another file")
    return path
