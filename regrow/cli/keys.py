"""``regrow dead-letters new-key | rotate-keys | erase``: what letters say is sealed, and can be erased."""

from __future__ import annotations

import click

from regrow.cli.output import actor, confirm, json_option, print_json, yes_option
from regrow.dead_letters import service
from regrow.engine import get_engine


@click.command(name="new-key")
@click.option("--spool", is_flag=True, help="A pair: the private key, and on stderr the public one for apps.")
def new_key(spool: bool) -> None:
    """Print a new key, as a file of [dead_letters.keys] (or spool_keys) must hold it."""
    from regrow.dead_letters import sealing, spool_sealing

    if not spool:
        click.echo(sealing.text_of_key(sealing.new_key()))
        return
    private, public = spool_sealing.new_pair()
    click.echo(sealing.text_of_key(private))
    click.echo(f"for apps, as REGROW_SPOOL_KEY: {public}", err=True)


@click.command(name="rotate-keys")
@json_option
def rotate_keys(as_json: bool) -> None:
    """Wrap all data keys by the current key, after which older ones can go. May be stopped and run again."""
    done = service.rotate_keys(get_engine())
    if as_json:
        print_json(done)
        return
    held = ", ".join(f"{count} by {key_id}" for key_id, count in done["wrapped_by"].items()) or "none"
    click.echo(f"{done['rewrapped']} data keys rewrapped; now wrapped: {held}")


@click.command()
@click.option("--service", "owner", help="All letters of this service.")
@click.option("--subject", help="All letters about this subject, as captures named it.")
@click.option("--reason", required=True, help="Why, for the audit.")
@click.option("--force", is_flag=True, help="Discard letters of it that are not settled.")
@yes_option
@json_option
def erase(owner: str | None, subject: str | None, reason: str, force: bool, yes: bool, as_json: bool) -> None:
    """Destroy for good what the letters of a service or a subject say, in the database and in archives.

    With both, only letters of that service about that subject. The exit code is 1 when archives hold such
    letters that were never sealed: those files are named, and are yours to delete.
    """
    named = " and ".join(
        part for part in (owner and f"service {owner}", subject and f"subject {subject}") if part
    )
    confirm(f"Erase what the letters of {named or 'nobody'} say? This cannot be undone.", yes=yes)
    done = service.erase(
        get_engine(), service=owner, subject=subject, actor=actor(), reason=reason, force=force
    )
    if as_json:
        print_json(done)
    else:
        click.echo(
            f"{done['letters']} letters erased, {done['keys']} data keys destroyed, "
            f"{done['discarded']} letters discarded"
        )
        for archive in done["plain_in_archives"]:
            click.echo(f"archive {archive} holds such letters that were never sealed", err=True)
    if done["plain_in_archives"]:
        raise click.exceptions.Exit(1)
