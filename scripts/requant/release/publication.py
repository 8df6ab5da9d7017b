"""Publishing from end to end: the release verified, each destination's changes shown, carried out, and on record.

The command ``requant publish`` and the workflow's target ``publish`` are this, with another way to say it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from requant.ground.exit_codes import ExitCode
from requant.places.destinations.destination import Destination
from requant.release import publish, published, verify_verdict
from requant.release.verify import verify_release

REFUSED = "not published: only a release that agrees is"
SHOWN = "nothing was changed: carry it out with --upload"


@dataclass(frozen=True)
class Asked:
    """What is asked for: nothing is changed anywhere without ``upload``.

    ``key`` is the public key that the attestation must be signed with, if any.
    """

    upload: bool = False
    review: bool = False
    delete: bool = False
    private: bool = False
    key: Path | None = None


def publish_release(
    release: Path, places: Sequence[Destination], asked: Asked, say: Callable[[str], object]
) -> ExitCode:
    """Publish a release, and ``say`` what would change, or how each destination was left.

    Raises:
        FormatError, UnsupportedError: when the folder is no release, or its old record is none.
        SourceError: when a hub does not say what it holds; nothing has been changed then.
        DiskError: when the record cannot be written.
    """
    verified = verify_release(release, asked.key)
    if verified.exit_code:
        say(f"{verify_verdict.as_text(verified)}\n{REFUSED}")
        return verified.exit_code
    found = publish.contents(verified)
    wished = publish.wishes(found, review=asked.review, private=asked.private)
    plans = [publish.plan(found, place, wished, delete=asked.delete) for place in places]
    for planned in plans:
        say(published.plan_as_text(found, planned))
    if not asked.upload:
        say(SHOWN)
        return ExitCode.OK
    record = published.record_path(release)
    published.read_record(record)
    publications = []
    for planned in plans:
        publications.append(publish.carry_out(found, planned, wished, delete=asked.delete))
        say(published.as_text(publications[-1]))
        published.write_record(record, found, publications)
    say(f"wrote {record}")
    return published.worst(publications)
