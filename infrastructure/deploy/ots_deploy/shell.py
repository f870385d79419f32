"""Other programs: run, or, in a dry run, printed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from ots_deploy.errors import DeployError


@dataclass(frozen=True)
class Done:
    """What a program said."""

    status: int
    out: str
    err: str = ""


class Terminated(KeyboardInterrupt):
    """By SIGTERM, which, unlike Ctrl-C, reached us alone."""


def execute(
    words: Sequence[str],
    *,
    given: str | None,
    shown: bool,
    environment: Mapping[str, str],
    open_files: tuple[int, ...],
) -> Done:
    """Run a program to its end, also when we are interrupted: Terraform, killed, would not have saved its state.

    Raises FileNotFoundError, and KeyboardInterrupt when the program has ended.
    """
    seen = None if shown else subprocess.PIPE
    entry = subprocess.PIPE if given is not None else None if shown else subprocess.DEVNULL
    with subprocess.Popen(
        words, stdin=entry, stdout=seen, stderr=seen, text=True, env=environment, pass_fds=open_files
    ) as process:
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                out, err = process.communicate(given)
                break
            except KeyboardInterrupt as interruption:
                # a second one would make Terraform leave everything as it stands
                if interrupted is None and isinstance(interruption, Terminated):
                    process.send_signal(signal.SIGINT)
                interrupted, given = interruption, None
    if interrupted is not None:
        raise interrupted
    return Done(process.returncode, out or "", err or "")


@dataclass
class Shell:
    """Runs programs. ``dry``: prints them instead, and answers what a first deployment is planned to hear."""

    dry: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)

    def say(self, line: str = "") -> None:
        """A line for the person, at once."""
        print(line, file=self.out, flush=True)

    def step(self, title: str) -> None:
        """The heading of what follows."""
        self.say(f"== {title}")

    def run(
        self,
        *words: str,
        given: str | None = None,
        given_is: str = "",
        planned: str = "",
        note: str = "",
        accept: tuple[int, ...] = (0,),
        shown: bool = False,
        local: bool = False,
        environment: Mapping[str, str] | None = None,
        open_files: tuple[int, ...] = (),
    ) -> Done:
        """Run one program. Raises :class:`DeployError` when it ends with a status that is not accepted.

        ``given``: its standard input, where secrets go, because a command line is everybody's to read; ``given_is``
        says in a dry run what it would be. ``planned``: the answer of a dry run. ``note``: when it is not always run.
        ``shown``: the person sees its output. ``local``: it asks this machine only and changes nothing, so that a
        dry run runs it too. ``open_files``: descriptors that it gets.
        """
        if self.dry and not local:
            heard = f" <<< {given_is}" if given_is else ""
            self.say(f"  {shlex.join(words)}{heard}{f'   # {note}' if note else ''}")
            return Done(0, planned)
        try:
            settings = {**os.environ, **(environment or {})}
            answer = execute(words, given=given, shown=shown, environment=settings, open_files=open_files)
        except FileNotFoundError:
            raise DeployError(f"{words[0]} is not there") from None
        if answer.status not in accept:
            raise DeployError(f"{shlex.join(words[:6])} ... failed with {answer.status}\n{answer.err.strip()[-2000:]}")
        return answer

    def ask(self, question: str) -> str:
        """A person's answer; empty where nobody is there."""
        try:
            return input(question).strip()
        except EOFError:
            return ""


@dataclass(frozen=True)
class Aws:
    """The command line of AWS, in one region."""

    shell: Shell
    region: str

    def call(
        self,
        service: str,
        operation: str,
        *words: str,
        body: Mapping[str, Any] | None = None,
        body_is: str = "",
        planned: Any = None,
        note: str = "",
    ) -> Any:
        """One call; its answer. Raises :class:`DeployError`.

        ``body`` may be secret, and so is neither in the command nor on a disk; ``body_is`` is told of it in a dry run.
        """
        with ExitStack() as stack:
            command = ["aws", service, operation, *words, "--region", self.region, "--output", "json"]
            given: tuple[int, ...] = ()
            if body is not None and self.shell.dry:
                command += ["--cli-input-json", "file://BODY"]
            elif body is not None:
                path, given = stack.enter_context(_unseen(json.dumps(body)))
                command += ["--cli-input-json", f"file://{path}"]
            done = self.shell.run(
                *command,
                given_is=body_is or ("" if body is None else json.dumps(body)),
                planned=json.dumps(planned),
                note=note,
                environment={"AWS_PAGER": ""},
                open_files=given,
            )
        return json.loads(done.out) if done.out.strip() else None


@contextmanager
def _unseen(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The path of a file, and the descriptors that it needs.

    AWS' command line reads it more than once, which rules out its standard input.
    Linux keeps it in memory without a name; elsewhere it is a file that only its owner may read, until the call ends.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("body"), "w+") as file:
            file.write(text)
            file.flush()
            yield f"/dev/fd/{file.fileno()}", (file.fileno(),)
    else:
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write(text)
            file.flush()
            yield file.name, ()
