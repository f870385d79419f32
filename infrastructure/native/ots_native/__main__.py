"""`python -m ots_native`: the commands of ./start-dev.sh without containers."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ots_native import backups
from ots_native.commands import run_beside
from ots_native.env_file import read_env_file
from ots_native.errors import NativeError
from ots_native.platform import READY_TIMEOUT_S, Platform, Status

CHECKOUT = Path(__file__).resolve().parents[3]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return _run(parsed, _platform(parsed.root))
    except NativeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what was started keeps running (./start-dev.sh down stops it).", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./start-dev.sh", description="Run AI-OTS on this machine without containers."
    )
    parser.add_argument("--root", type=Path, default=CHECKOUT, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start everything")
    commands.add_parser("monitoring", help="fetch Prometheus, Alertmanager and exporters, and start them too")
    commands.add_parser("down", help="stop everything; the data stay")
    commands.add_parser("status", help="what runs; exit code 0 only if all does")
    logs = commands.add_parser("logs", help="the last lines of the logs")
    logs.add_argument("service", nargs="?")
    logs.add_argument("-f", "--follow", action="store_true")
    token = commands.add_parser("token", help="print `export TOKEN=...`")
    token.add_argument("--role", default="trader", choices=["viewer", "trader", "operator", "admin"])
    run = commands.add_parser("run", help="one of our command lines, with what PROGRAM is given")
    run.add_argument("program")
    run.add_argument("module", help="such as ots_ingestion or ots_gateway.signing_keys")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    backup = commands.add_parser("backup", help="copy both databases to a new folder in FOLDER")
    backup.add_argument("folder", type=Path)
    backup.add_argument("--keep", type=int, metavar="N", help="delete the oldest backups there beyond N")
    restore = commands.add_parser("restore", help="put both databases into the state of BACKUP; first `down`")
    restore.add_argument("backup", type=Path)
    restore.add_argument("--replace", action="store_true", help="also where there are data now, which are lost")
    restore.add_argument("--check", action="store_true", help="only say whether every byte is as it was written")
    reset = commands.add_parser("reset", help="stop everything and delete the development data")
    reset.add_argument("--yes", action="store_true", help="accepted and not needed: nothing is asked")
    return parser


def _platform(root: Path) -> Platform:
    environment = dict(os.environ)
    try:
        named = {**read_env_file(root / ".env"), **{name: value for name, value in environment.items() if value}}
    except ValueError as error:
        raise NativeError(str(error)) from None
    timeout = named.get("OTS_READY_TIMEOUT_S") or str(READY_TIMEOUT_S)
    try:
        ready_timeout_s = float(timeout)
    except ValueError:
        raise NativeError(f"OTS_READY_TIMEOUT_S={timeout} is not a number of seconds.") from None
    state = named.get("OTS_STATE_DIR")
    return Platform(
        root,
        state=Path(state).expanduser() if state else None,
        environment=environment,
        ready_timeout_s=ready_timeout_s,
        say=_say,
    )


def _say(line: str) -> None:
    """A reader that went away (`up | head`) must not stop what is under way."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _silence()


def _silence() -> None:
    """Send what is still to be printed nowhere: a broken pipe would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(parsed: argparse.Namespace, platform: Platform) -> int:
    if parsed.command == "up":
        platform.up()
    elif parsed.command == "monitoring":
        platform.monitor()
    elif parsed.command == "down":
        platform.down()
    elif parsed.command == "status":
        status = platform.status()
        print(_table(status))
        return 0 if status.is_good else 1
    elif parsed.command == "logs":
        try:
            for line in platform.logs(parsed.service, follow=parsed.follow):
                print(line, flush=True)
        except BrokenPipeError:
            _silence()
    elif parsed.command == "token":
        print(f"export TOKEN={platform.token(parsed.role)}")
    elif parsed.command == "run":
        return run_beside(platform, parsed.program, parsed.module, parsed.arguments)
    elif parsed.command == "backup":
        backups.back_up(platform, parsed.folder, parsed.keep)
    elif parsed.command == "restore":
        backups.restore(platform, parsed.backup, replace=parsed.replace, check=parsed.check)
    elif parsed.command == "reset":
        deleted = platform.reset()
        print("\n".join(f"Deleted {path}" for path in deleted) or "There was nothing to delete.")
    return 0


def _table(status: Status) -> str:
    rows = [("PROGRAM", "STATE", "PID", "UPTIME", "PORT", "")]
    for program in status.programs:
        pid, uptime = (str(program.pid), _duration(program.uptime_s)) if program.runs else ("", "")
        port = str(status.ports.get(program.name, ""))
        rows.append((program.name, program.state.lower(), pid, uptime, port, program.problem))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) for row in rows
    ]
    if not status.programs:
        lines = ["Nothing runs: ./start-dev.sh starts the platform."]
    lines += ["", f"Health: {status.health}", f"Data:   {', '.join(map(str, status.data))}"]
    return "\n".join(line.rstrip() for line in lines)


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


if __name__ == "__main__":
    sys.exit(main())
