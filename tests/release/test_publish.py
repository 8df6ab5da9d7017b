"""Bringing a small release to both hubs by their real clients: what is planned, what is there afterwards, what is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from requant.cli.main import main
from requant.documents.schemas import fault
from requant.ground.digests import Known, digest_file
from requant.ground.exit_codes import ExitCode
from requant.places.destinations.destination import Held
from requant.places.destinations.huggingface import HubDestination
from requant.release import publish as publishing
from requant.release.publish import Publication
from requant.release.verify import verify_release
from support.hub import TOKEN, Fault, LoopbackHub, modelscope_upload
from support.small_release import IMATRIX, QUANT

NAMES = {"huggingface": "huggingface:somebody/Tiny-GGUF", "modelscope": "modelscope:somebody/Tiny-MS"}
HUBS = [*NAMES]
FILES = {IMATRIX, QUANT, "README.md", "SHA256SUMS", "manifest.json"}
LEFT = {".gitattributes", "configuration.json"}


def publish(release: Path, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["publish", str(release), *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert TOKEN not in done.output
    return done.exit_code, done.stdout, done.stderr


def to(hub: str, *more: str) -> list[str]:
    return ["--to", NAMES[hub], *more]


def there(hub: LoopbackHub, name: str, branch: str = "main") -> dict[str, str]:
    """The SHA-256 of every file of a branch, but for what hubs leave."""
    repo = hub.repos.get(("models", NAMES[name].partition(":")[2]))
    found = repo.at(branch) if repo else None
    return {path: file.sha256 for path, file in found.files.items() if path not in LEFT} if found else {}


def wanted(release: Path) -> dict[str, str]:
    return {path.name: digest_file(path).sha256 for path in release.iterdir()}


def record(release: Path) -> dict[str, Any]:
    document = json.loads((release.parent / "published.json").read_bytes())
    assert fault(document, "published", "the record") is None
    return dict(document)


@pytest.mark.parametrize("name", HUBS)
def test_nothing_is_changed_unless_asked(writing: LoopbackHub, release: Path, name: str) -> None:
    code, out, _ = publish(release, *to(name))
    assert code == 0
    assert "not there, or not for this token to see; it would be made" in out
    assert out.count("  new  ") == len(FILES)
    assert out.endswith("nothing was changed: carry it out with --upload\n")
    assert {entry.method for entry in writing.requests} == {"GET"} and not writing.repos
    assert not (release.parent / "published.json").exists()


@pytest.mark.parametrize("name", HUBS)
def test_everything_is_there_and_read_back(writing: LoopbackHub, release: Path, name: str) -> None:
    code, out, err = publish(release, *to(name, "--upload"))
    assert (code, err.count("Traceback")) == (0, 0), out + err
    assert f"complete: {NAMES[name]}" in out and "5 of 5 files are as released" in out
    assert there(writing, name) == wanted(release)
    [place] = record(release)["places"]
    assert (place["complete"], place["error"], place["beside"]) == (True, None, [])
    assert {file["name"]: file["sha256"] for file in place["files"]} == wanted(release)
    recorded = {file["name"]: file["recorded"] for file in place["files"]}
    assert recorded[QUANT]["sha256"] == digest_file(release / QUANT).sha256
    assert (recorded["README.md"]["sha256"] is None) is (name == "huggingface")
    # Once more: there is nothing to do, and nothing is done.
    writing.requests.clear()
    code, out, _ = publish(release, *to(name, "--upload"))
    assert code == 0 and out.count("  same  ") == len(FILES)
    assert {entry.method for entry in writing.requests} == {"GET"}
    assert verify_release(release).verdict == "agrees"


def test_both_hubs_at_once_and_one_record(writing: LoopbackHub, release: Path) -> None:
    assert publish(release, *to("huggingface", "--upload"))[0] == 0
    code, out, _ = publish(release, *to("huggingface"), *to("modelscope", "--upload"))
    assert code == 0 and out.count("complete: ") == 2
    assert there(writing, "huggingface") == there(writing, "modelscope") == wanted(release)
    assert [(place["hub"], place["complete"]) for place in record(release)["places"]] == [
        ("huggingface", True), ("modelscope", True),
    ]  # fmt: skip
    assert writing.storage.licences == {"somebody/Tiny-MS": "MIT"}


@pytest.mark.parametrize("name", HUBS)
def test_replaced_kept_and_deleted(writing: LoopbackHub, release: Path, tmp_path: Path, name: str) -> None:
    old = tmp_path / "old"
    (old / "logs").mkdir(parents=True)
    for path, text in {QUANT: "other", "old.gguf": "x", "logs/a.txt": "x", ".gitattributes": "x"}.items():
        (old / path).write_text(text)
    writing.add_model(NAMES[name].partition(":")[2], old)
    others = {path: digest_file(old / path).sha256 for path in ("old.gguf", "logs/a.txt")}
    code, out, _ = publish(release, *to(name, "--upload"))
    assert code == 0
    assert [out.count(f"  {word:<8}  ") for word in ("new", "replaced", "kept")] == [4, 1, 2]
    assert there(writing, name) == wanted(release) | others
    assert "files are as released; old.gguf of another release stays beside them: --delete removes it" in out
    assert sorted(record(release)["places"][0]["beside"]) == sorted(others)
    code, out, _ = publish(release, *to(name, "--delete"))
    assert (code, out.count("  deleted   ")) == (0, 2) and there(writing, name) == wanted(release) | others
    assert publish(release, *to(name, "--delete", "--upload"))[0] == 0
    assert there(writing, name) == wanted(release)


def test_large_files_in_parts(writing: LoopbackHub, release: Path) -> None:
    writing.storage.part_size = 4096
    assert publish(release, *to("huggingface", "--upload"))[0] == 0
    assert there(writing, "huggingface") == wanted(release)
    assert len(writing.seen("/upload/*/*", "PUT")) > 1 and writing.seen("/join/*")


def test_a_signature_goes_along(writing: LoopbackHub, release: Path, key: Path, public: Path) -> None:
    assert CliRunner().invoke(main, ["attest", str(release), "--key", str(key)]).exit_code == 0
    assert publish(release, *to("huggingface", "--upload", "--key", str(public)))[0] == 0
    assert there(writing, "huggingface") == wanted(release)
    assert "attestation.intoto.json" in wanted(release)


def test_a_review_is_one_pull_request(writing: LoopbackHub, release: Path) -> None:
    writing.storage.make("somebody/Tiny-GGUF", {"README.md": b"old"}, private=False, token=None)
    code, out, _ = publish(release, *to("huggingface", "--review"))
    assert (code, "a new pull request" in out) == (0, True)
    for _ in range(2):
        assert publish(release, *to("huggingface", "--review", "--upload"))[0] == 0
    repo = writing.repos["models", "somebody/Tiny-GGUF"]
    assert len(repo.pull_requests) == 1 and repo.pull_requests[0].title.startswith("Tiny-Qwen3, release ")
    assert there(writing, "huggingface", "refs/pr/1") == wanted(release)
    assert there(writing, "huggingface").keys() == {"README.md"}
    assert record(release)["places"][0]["revision"] == "refs/pr/1"


def test_a_pull_request_of_somebody_else_is_left_alone(writing: LoopbackHub, release: Path) -> None:
    writing.storage.make("somebody/Tiny-GGUF", {}, private=False, token=None)
    assert publish(release, *to("huggingface", "--review", "--upload"))[0] == 0
    repo = writing.repos["models", "somebody/Tiny-GGUF"]
    repo.pull_requests[0] = type(repo.pull_requests[0])(repo.pull_requests[0].title, "mallory")
    assert publish(release, *to("huggingface", "--review", "--upload"))[0] == 0
    assert [each.author for each in repo.pull_requests] == ["mallory", "somebody"]


def test_a_review_whose_answer_is_lost_is_found(writing: LoopbackHub, release: Path) -> None:
    writing.storage.make("somebody/Tiny-GGUF", {}, private=False, token=None)
    writing.faults.add(Fault("*/commit/*", "lost", times=1))
    code, out, _ = publish(release, *to("huggingface", "--review", "--upload"))
    assert code == 0 and "complete: huggingface:somebody/Tiny-GGUF, refs/pr/1: 5 of 5 files" in out
    assert len(writing.repos["models", "somebody/Tiny-GGUF"].pull_requests) == 1


def test_a_review_of_what_is_there_already(writing: LoopbackHub, release: Path) -> None:
    assert publish(release, *to("huggingface", "--upload"))[0] == 0
    code, out, _ = publish(release, *to("huggingface", "--review", "--upload"))
    assert code == 0 and "the main branch, with nothing to review: 5 of 5 files" in out
    assert not writing.repos["models", "somebody/Tiny-GGUF"].pull_requests


def test_a_review_in_a_repository_that_is_made(writing: LoopbackHub, release: Path) -> None:
    assert publish(release, *to("huggingface", "--review", "--upload"))[0] == 0
    assert there(writing, "huggingface", "refs/pr/1") == wanted(release)
    assert not there(writing, "huggingface")


def test_private_repositories(writing: LoopbackHub, release: Path) -> None:
    assert publish(release, *to("huggingface"), *to("modelscope", "--private", "--upload"))[0] == 0
    assert [repo.token for repo in writing.repos.values()] == [TOKEN, TOKEN]


# What is not published.


def test_only_what_verifies(writing: LoopbackHub, release: Path) -> None:
    (release / QUANT).write_bytes(b"GGUF")
    code, out, _ = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.AGAINST and out.endswith("not published: only a release that agrees is\n")
    (release / "manifest.json").unlink()
    assert not writing.requests


WRONG = {
    "no hub": (["--to", "hugingface:a/b"], "names no hub (did you mean huggingface?): write huggingface:OWNER/NAME"),
    "no colon": (["--to", "a/b"], "names no hub"),
    "no repository": (["--to", "modelscope:a"], "names no repository: write modelscope:OWNER/NAME"),
    "twice": (["--to", "modelscope:a/b", "--to", "modelscope:a/b"], "--to names a repository twice"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_usage(release: Path, arguments: list[str], words: str) -> None:
    code, _, err = publish(release, *arguments)
    assert code == ExitCode.USAGE and words in err


def test_modelscope_has_no_reviews(writing: LoopbackHub, release: Path) -> None:
    code, _, err = publish(release, *to("huggingface"), *to("modelscope", "--review", "--upload"))
    assert code == ExitCode.UNCHECKED and "--review is for huggingface" in err
    assert not writing.repos, "nor is anything changed elsewhere"


def test_a_record_that_is_none_is_not_overwritten(writing: LoopbackHub, release: Path) -> None:
    (release.parent / "published.json").write_text('{"schema": "mine"}')
    code, _, err = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.USAGE and "move it away and run again" in err
    assert (release.parent / "published.json").read_text() == '{"schema": "mine"}'


def test_a_hub_that_records_other_bytes(writing: LoopbackHub, release: Path) -> None:
    """It took all, and shows something else: evidence against it, in the record too."""
    assert publish(release, *to("huggingface", "--upload"))[0] == 0
    (release / "README.md").touch()
    repo = writing.repos["models", "somebody/Tiny-GGUF"]
    commit = writing.storage.commit
    writing.storage.commit = lambda *arguments, **options: repo.at("main")  # type: ignore[method-assign]
    oid = str(writing.storage.keep(b"other"))
    commit(repo, "main", {QUANT: writing.storage.file(QUANT, oid, lfs=True)})
    code, out, _ = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.AGAINST
    assert f"incomplete: {NAMES['huggingface']}: 4 of 5 files are as released, left to do: {QUANT} (replaced)" in out
    [place] = record(release)["places"]
    assert not place["complete"] and "records other bytes" in place["error"]
    assert [file["name"] for file in place["files"] if not file["agrees"]] == [QUANT]


def test_a_commit_of_somebody_else_meanwhile(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was planned is done upon what was looked at, or not at all."""
    storage = writing.storage
    storage.make("somebody/Tiny-GGUF", {"README.md": b"old"}, private=False, token=None)
    repo, keep = writing.repos["models", "somebody/Tiny-GGUF"], storage.keep

    def interfering(data: bytes, oid: str | None = None) -> str | None:
        if oid is not None:
            storage.commit(repo, "main", {"new.txt": storage.file("new.txt", str(keep(b"x")), lfs=False)})
        return keep(data, oid)

    monkeypatch.setattr(storage, "keep", interfering)
    code, out, _ = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.UNCHECKED
    assert "was changed by somebody else meanwhile: run again (412)" in out
    assert there(writing, "huggingface").keys() == {"README.md", "new.txt"}
    monkeypatch.undo()


def test_a_hub_that_records_no_digest(writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no evidence against it."""
    monkeypatch.setattr("requant.places.modelscope.Known", lambda size, sha256: Known(size))
    code, out, _ = publish(release, *to("modelscope", "--upload"))
    assert code == ExitCode.UNCHECKED and "took everything and records no digest of " in out


@pytest.mark.parametrize(
    ("name", "words"), [("huggingface", "type hf auth login"), ("modelscope", "MODELSCOPE_API_TOKEN")]
)
def test_without_a_token(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN")
    assert publish(release, *to(name))[0] == 0
    code, out, _ = publish(release, *to(name, "--upload"))
    assert code == ExitCode.UNCHECKED and words in out and "0 of 5 files are as released" in out
    [place] = record(release)["places"]
    assert not place["complete"] and words in place["error"]


def test_a_mirror_with_a_password(writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the token's place with the client, so that nothing is brought; and nothing shows it."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", writing.url.replace("://", "://me:hunter2@"))
    code, out, err = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.UNCHECKED and "refuses to be written to" in out
    assert "hunter2" not in out + err + (release.parent / "published.json").read_text()


def test_a_mirror_without_xet(writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    code, out, _ = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.UNCHECKED and "run again, with HF_HUB_DISABLE_XET=1 if it is a mirror" in out
    assert writing.seen("*/xet-write-token/main")


def test_a_hub_that_repeats_the_token_is_not_quoted(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what it lists under such a name; ``publish`` looks that no output holds the token."""
    monkeypatch.setattr("requant.ground.text._HIDDEN", set())
    monkeypatch.setattr(modelscope_upload, "_commit", lambda *_: modelscope_upload._failure(400, f"you sent {TOKEN}"))
    code, out, _ = publish(release, *to("modelscope", "--upload"))
    assert code == ExitCode.UNCHECKED and "you sent ..." in out
    writing.storage.make("somebody/Tiny-GGUF", {f"{TOKEN}.txt": b"x"}, private=False, token=None)
    assert publish(release, *to("huggingface", "--upload"))[0] == 0
    assert TOKEN not in (release.parent / "published.json").read_text()


def changed(release: Path) -> None:
    data = (release / "README.md").read_bytes()
    (release / "README.md").write_bytes(data[:-4] + b"xyz\n")


def gone(release: Path) -> None:
    (release / "README.md").unlink()


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize(
    ("meanwhile", "words"), [(changed, "README.md changed on this machine"), (gone, "cannot be read")]
)
def test_a_release_that_changes_while_it_is_brought(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    meanwhile: Callable[[Path], None], words: str,
) -> None:  # fmt: skip
    """Nothing is called as released that was not verified, no hub is accused of it, and what is there is on record."""
    carry_out = publishing.carry_out

    def late(*arguments: Any, **options: Any) -> Publication:
        meanwhile(release)
        return carry_out(*arguments, **options)

    monkeypatch.setattr(publishing, "carry_out", late)
    code, out, err = publish(release, *to(name, "--upload"))
    assert code == ExitCode.UNCHECKED and words in out, out + err
    [place] = record(release)["places"]
    assert not place["complete"] and words in place["error"]


@pytest.mark.parametrize("name", HUBS)
@pytest.mark.parametrize("file", [QUANT, "README.md", "SHA256SUMS", "manifest.json"])
def test_what_changes_after_the_release_was_verified_is_not_published(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    before, carry_out = wanted(release), publishing.carry_out

    def late(*arguments: Any, **options: Any) -> Publication:
        data = (release / file).read_bytes()
        (release / file).write_bytes(data[:-4] + b"xyz\n")
        return carry_out(*arguments, **options)

    monkeypatch.setattr(publishing, "carry_out", late)
    code, out, err = publish(release, *to(name, "--upload"))
    assert code == ExitCode.UNCHECKED, out + err
    assert f"{file} changed on this machine since the release was verified: run again" in out
    # ModelScope makes a card of its own with the repository.
    found, after = there(writing, name), wanted(release)
    assert found.get(file) != after[file] and found.get("README.md") not in (before["README.md"], after["README.md"])


def test_a_review_that_failed_once_is_not_on_record_for_ever(writing: LoopbackHub, release: Path) -> None:
    writing.storage.make("somebody/Tiny-GGUF", {"README.md": b"old"}, private=False, token=None)
    writing.faults.add(Fault("*/commit/*", status=403, times=1))
    assert publish(release, *to("huggingface", "--review", "--upload"))[0] == ExitCode.UNCHECKED
    assert publish(release, *to("huggingface", "--review", "--upload"))[0] == 0
    assert [place["revision"] for place in record(release)["places"]] == ["refs/pr/1"]


def test_a_commit_of_somebody_else_where_nothing_was_brought(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub records other bytes, and not of what was given to it."""
    assert publish(release, *to("huggingface", "--upload"))[0] == 0
    carry_out, storage = publishing.carry_out, writing.storage

    def late(*arguments: Any, **options: Any) -> Publication:
        other = storage.file("README.md", str(storage.keep(b"other")), lfs=False)
        storage.commit(writing.repos["models", "somebody/Tiny-GGUF"], "main", {"README.md": other})
        return carry_out(*arguments, **options)

    monkeypatch.setattr(publishing, "carry_out", late)
    code, out, _ = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.UNCHECKED and "was changed by somebody else meanwhile: run again" in out


LISTINGS: dict[str, tuple[Any, str]] = {
    "a digest that is none": ({"x": Known(1, git_blob="XYZ")}, "lists 'x' with an impossible size or digest"),
    "a name that leads out": ({"../x": Known(1)}, "lists a file named '../x'"),
    "a name that is a number": ({5: Known(1)}, "lists a file named '5'"),
}


@pytest.mark.parametrize(("listing", "words"), LISTINGS.values(), ids=list(LISTINGS))
def test_a_listing_that_cannot_be(
    writing: LoopbackHub, release: Path, monkeypatch: pytest.MonkeyPatch, listing: Any, words: str
) -> None:
    monkeypatch.setattr(HubDestination, "held", lambda *_: Held(True, "main", "0" * 40, listing))
    code, _, err = publish(release, *to("huggingface", "--upload"))
    assert code == ExitCode.UNCHECKED and f"error: somebody/Tiny-GGUF on {writing.url} {words}" in err
    assert not (release.parent / "published.json").exists()
