"""``./deploy-prod.sh``: AI-OTS on AWS. See docs/DEPLOYMENT_GUIDE.md."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ots_deploy.checks import check
from ots_deploy.environment import environment
from ots_deploy.errors import FAILED, INTERRUPTED, DeployError
from ots_deploy.release import COMMANDS, Deployment, Options
from ots_deploy.sbom import write_sbom
from ots_deploy.shell import Shell, Terminated

_EPILOG = """\
exit status: 0 done, 1 failed, 2 the question is wrong, 3 something is missing here (nothing was begun), 4 somebody else
is at it, 5 not agreed to, 6 the migration failed (the services run on as before), 7 the release failed and what ran
before runs again, 8 it failed and so did going back, 9 (status) not all is well, 130 interrupted: type it again
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--environment",
        default=os.environ.get("OTS_DEPLOY_ENVIRONMENT"),
        metavar="NAME",
        help="infrastructure/terraform/environments/NAME.tfvars (OTS_DEPLOY_ENVIRONMENT, or the only one there is)",
    )
    common.add_argument(
        "--dry-run", action="store_true", help="print every command in its order; ask and change nothing"
    )
    common.add_argument("--yes", action="store_true", help="agree beforehand (not to destroy)")
    common.add_argument("--poll-s", type=float, default=10.0, metavar="S", help="how often AWS is asked for news (10)")
    common.add_argument("--database-ca", type=Path, metavar="PEM", help="who signs an endpoint's certificate")
    top = argparse.ArgumentParser(
        prog="./deploy-prod.sh",
        description="AI-OTS on AWS: builds and pushes images, applies Terraform, migrates, moves the services, and "
        "goes back when that fails.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, words: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, parents=[common])

    add("deploy", "release the commit that is checked out; the first time makes everything")
    add("status", "what runs, which images, the last migration, the address")
    add("plan", "what Terraform would change; nothing is changed")
    add("migrate", "run the migrating task alone")
    add("rollback", "back to the release before this one").add_argument(
        "--to", metavar="RELEASE", help="back to that one (status names them by commit)"
    )
    logs = add("logs", "the lines of a service, or of migrate")
    logs.add_argument("service")
    logs.add_argument("--since", default="1h", metavar="TIME", help="1h, 30m, 2026-12-01T14:00:00 (1h)")
    logs.add_argument("--follow", action="store_true", help="go on")
    add("rotate", "new values of secrets, and every service starts anew").add_argument(
        "names", nargs="+", metavar="SECRET"
    )
    sbom = commands.add_parser("sbom", help="what an image is made of, as CycloneDX", description=write_sbom.__doc__)
    sbom.add_argument("image", help="an image that the engine here has, such as ai-ots/gateway:development")
    sbom.add_argument("--output", type=Path, metavar="FILE", help="else standard output")
    add("destroy", "delete everything; the environment's name must be typed")
    return top


def _terminated(_number: int, _frame: object) -> None:
    raise Terminated


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; the exit status."""
    options = parser().parse_args(arguments)
    # the lock is to be given back
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if options.command == "sbom":
            write_sbom(Shell(), options.image, options.output)
            return 0
        shell = Shell(dry=options.dry_run)
        where = environment(options.environment, dry=shell.dry)
        account = check(shell, options.command, where)
        deployment = Deployment(shell, where, account, Options(options.yes, options.poll_s, options.database_ca))
        if options.command == "rollback":
            return deployment.rollback(options.to)
        if options.command == "rotate":
            return deployment.rotate(options.names)
        if options.command == "logs":
            return deployment.logs(options.service, since=options.since, follow=options.follow)
        return COMMANDS[options.command](deployment)
    except DeployError as error:
        print(f"deploy-prod.sh: {error}", file=sys.stderr)
        return error.status or FAILED
    except KeyboardInterrupt:
        print("\ndeploy-prod.sh: interrupted; the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
