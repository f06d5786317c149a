"""The command line. One file a command, each a few lines over the library; nothing is imported before it runs."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn, TextIO

import click

from vla_data._version import __version__
from vla_data.cli.room import check_room
from vla_data.errors import VlaDataError
from vla_data.files.write import hold_standard, machine_errors
from vla_data.safety.text import plain, show

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "align": "Rollouts into a LeRobot v3.0 dataset for supervised fine-tuning.",
        "annotate": "Advantages for every frame of a LeRobot dataset, as RECAP trainers read them.",
        "build": "A TFDS dataset by its name, for example ppo_sft_aligned.",
        "check-dynamics": "Compare actions with the motion that states show.",
        "convert": "Another format, every frame, nothing curated.",
        "diff": "What tells two datasets apart: features, conventions, statistics, episodes by content.",
        "doctor": "Which extras work on this machine, and why the others do not.",
        "edit": "Drop, keep, trim or split episodes of a LeRobot dataset; video is copied, not encoded again.",
        "fast-fit": "FAST tokens for the action chunks of a dataset, as Hugging Face's processor reads them.",
        "inspect": "What a folder of rollouts or a dataset holds.",
        "merge": "One dataset of several, of unlike schemas by a declared mapping.",
        "mixture": "What a mixture of datasets really samples, and what is odd about it.",
        "prepare": "Everything that a trainer needs beside its code, and the command to type.",
        "push": "Send a dataset to the Hugging Face Hub, with a card and a version tag.",
        "quality": "A table of measures of every episode, and filters by them.",
        "repair": "Give a damaged dataset the bytes back that it was published with.",
        "report": "One HTML page on a dataset, for people: what is in it, and what deserves a look.",
        "sanitize": "Re-save pickled rollouts as plain npz files, which need no unpickling.",
        "seal": "Write SHA256SUMS beside rollouts, so that later damage is noticed.",
        "split": "Which episodes are for training: by a stable hash of task, scene or seed.",
        "stats": "Normalisation statistics as a trainer's own file; exact, without decoding an image.",
        "verify": "Check that a dataset is what was published; names every damaged file.",
        "view": "Look at the episodes of any source in a browser on this machine; offline.",
        "why": "What became of an episode or a frame, and by which rule.",
    }
)
"""Command -> one line. Sorted; each is in the module of its name."""

EXIT_CODES: Final = """\b
Exit codes:
   0  done
   1  a defect of vla-data
   2  the call, or the input as a whole, is wrong
   3  done; some episodes were quarantined
   4  refused: too many bad episodes, or none left
   5  the target exists
   6  what was read back is not what was written; diff: they differ
   7  disk full, permission, input/output error: run it again
   8  another run is writing the target
   129, 130, 143  interrupted: run it again
"""


_LAID_OUT: Final = "\n\t"
_HELP: Final = frozenset(("-h", "--help", "--version"))
"""What needs no library."""
_ADDRESSES: Final = ("against",)
"""Options that are addresses, which have no type of their own."""


_PROGRAM: Final = object()
"""The object of a command line that is all that its process does."""
_JOBS: Final[Mapping[str, str]] = MappingProxyType(
    {"align": "lerobot", "build": "rlds", "convert": "lerobot", "edit": "lerobot", "merge": "lerobot"}
)
"""Commands that start workers, and what they write unless they are told."""
_WORDS: Final = {"--dry-run", "--help", "-h"}
"""With these none is started."""


def _begin(command: str) -> None:
    """Load what a job needs, and begin the server of its workers."""
    from vla_data.jobs.fork_server import quietly
    from vla_data.jobs.forked import fork_early

    with quietly():
        from vla_data.formats import FORMATS
    there = {word.rpartition("=")[2] for word in sys.argv} & {*FORMATS} or {_JOBS[command]}
    ends = [FORMATS["ppo_rollout"].source, *(FORMATS[name].sink for name in sorted(there))]
    fork_early((f"vla_data.cli.{command}", *(str(end).partition(":")[0] for end in ends if end)))


def _name(param: click.Parameter) -> str:
    """What a person calls an argument or an option."""
    if isinstance(param, click.Argument):
        return (param.metavar or str(param.name).upper()).strip("[].")
    return param.opts[0]


class _Lazy(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if ctx.obj is _PROGRAM and cmd_name in _JOBS and not _WORDS & {*sys.argv}:
            _begin(cmd_name)
        command: click.Command = importlib.import_module(f"vla_data.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See `click.Group`. An empty path, as of a shell's unset variable, would mean the current folder."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and any(arg == "" or arg.endswith("=") for arg in rest):
            values, _, _ = command.make_parser(click.Context(command, parent=ctx)).parse_args(list(rest))
            for param in command.params:
                value = values.get(str(param.name))
                path = isinstance(param, click.Argument) or isinstance(param.type, click.Path)
                if (path or param.name in _ADDRESSES) and "" in (
                    value if isinstance(value, list | tuple) else [value]
                ):
                    raise click.UsageError(f"{_name(param)} is empty", click.Context(command, ctx, name))
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vla-data")
def cli() -> None:
    """Robot-learning rollouts become datasets that VLA trainers can trust."""


def say(line: str, *, program: str = "vla-data") -> None:
    """One line for a person, on standard error, where it never mixes with results."""
    _write(sys.stderr, f"{program}: {plain(line)}\n")


def emit(text: str) -> None:
    """Results, on standard output."""
    _write(sys.stdout, f"{plain(text, keep=_LAID_OUT)}\n")


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    emit(json.dumps(value, indent=2, sort_keys=True))


def _write(stream: TextIO | None, text: str) -> None:
    """Write, if anybody reads: the work is done whether or not somebody looks at the report."""
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    with machine_errors("cannot print"):
        try:
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except OSError as error:
            # Python would complain again, and change the exit code, when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if not isinstance(error, BrokenPipeError):
                raise


class _Stopped(SystemExit):
    """A signal asks to end."""


def _terminate(number: int, _frame: Any) -> None:
    raise _Stopped(128 + number)


@contextlib.contextmanager
def _machine_said() -> Iterator[None]:
    """What the system refuses is the machine's affair wherever it happens, and no defect of ours."""
    if "--debug" in sys.argv:
        yield
    else:
        with machine_errors("cannot go on"):
            yield


def main() -> None:
    """Run the command line; every failure is one line and an exit code of `EXIT_CODES`."""
    command_line(cli, "vla-data")


def train() -> NoReturn:
    """Run ``vla-train``, whose code is in a package that somebody's folder of the same name may hide."""
    from vla_data.formats.tables import TRAINING, load_module

    try:
        program: click.Group = load_module(TRAINING, "train").cli
    except VlaDataError as error:
        say(str(error), program="vla-train")
        sys.exit(error.exit_code)
    command_line(program, "vla-train")


def command_line(group: click.Group, program: str) -> NoReturn:
    """Run a group of commands as ``program``; every failure is one line and an exit code of `EXIT_CODES`."""
    hold_standard()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which is how `nohup` asks to go on
        signal.signal(signal.SIGHUP, _terminate)
    try:
        if not _HELP.intersection(sys.argv):
            check_room()
        with _machine_said():
            code = group.main(prog_name=program, standalone_mode=False, obj=_PROGRAM)
    except (click.exceptions.Abort, KeyboardInterrupt, _Stopped) as stop:
        # A second interrupt may come while click still makes an `Abort` of the first; more change nothing.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = int(stop.code or 1) if isinstance(stop, _Stopped) else 130
        with contextlib.suppress(VlaDataError):  # the terminal may be what is gone
            say("interrupted; the same command goes on where this one stopped", program=program)
    except click.ClickException as error:
        where = f" ({error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        said = " ".join(error.format_message().split())  # choices stand in lines of their own
        say(f"E001 usage: {show(said, escaped=True)}{where}", program=program)
        code = 2
    except VlaDataError as error:
        code = error.exit_code
        with contextlib.suppress(VlaDataError):
            if "--json" in sys.argv:
                print_json({"error": {"code": error.code, "name": error.name, "message": error.message}})
            say(str(error), program=program)
    except ImportError as error:  # versions of two installed packages that do not fit
        say(f"E006 missing-extra: {show(error, escaped=True)}", program=program)
        code = 2
    except MemoryError:
        if "--debug" in sys.argv:
            raise
        say("E703 input-output: there is not enough memory for what this is to do", program=program)
        code = 7
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        say(
            f"E901 bug: {type(error).__name__}: {show(error, escaped=True)} (--debug shows where)", program=program
        )
        code = 1
    sys.exit(code)
