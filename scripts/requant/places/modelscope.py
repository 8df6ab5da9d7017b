"""ModelScope, with its own client ``modelscope_hub``; honours ``MODELSCOPE_ENDPOINT`` and ``MODELSCOPE_API_TOKEN``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelscope_hub import HubApi
from modelscope_hub.errors import AuthenticationError, HubError, NetworkError, NotExistError, PermissionDeniedError

from requant.ground.digests import Known
from requant.ground.errors import SourceError
from requant.ground.text import first_line
from requant.places.addresses import Address


class ModelScopeSource:
    """One model repository at one commit, or at ``master`` where every file has a pinned digest."""

    def __init__(
        self,
        repo: str,
        revision: str | None,
        named_by: str = "the pin",
        elsewhere: str = "use source=huggingface",
    ) -> None:
        self.repo, self.revision = repo, revision or "master"
        self.named_by, self.elsewhere = named_by, elsewhere
        self.shown = f"{repo}@{self.revision[:12]} on ModelScope"

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """Size and SHA-256 that ModelScope records of these files.

        Raises:
            SourceError: when ModelScope refuses or does not answer.
        """
        return {name: expected for name, expected in self.listing().items() if name in names}

    def listing(self) -> dict[str, Known]:
        """Size and SHA-256 that ModelScope records of all files.

        Raises:
            SourceError: when ModelScope refuses or does not answer.
        """
        with self._explained():
            try:
                listing = HubApi().list_repo_files(self.repo, repo_type="model", revision=self.revision)
            except OSError as error:
                # The client explains some broken connections, not all; an answer that is no JSON counts as both.
                if isinstance(error, ValueError):
                    raise
                raise NetworkError(str(error)) from error
            return {file.path: Known(file.size, sha256=file.sha256 or None) for file in listing if not file.is_dir}

    def address(self, name: str) -> Address:
        """Where one file can be read in ranges; ModelScope redirects large ones to storage that wants no token."""
        client = HubApi().legacy
        url = client.get_download_url(self.repo, "model", name, self.revision)
        token = client.token
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
        return Address(url, headers, client.endpoint.startswith("http://"))

    def cached(self, name: str) -> Path | None:  # noqa: ARG002 - the protocol's argument
        """ModelScope's cache is not looked at."""
        return None

    def fetch(self, name: str, part: Path) -> None:
        """Download one file to ``part``; the client goes on where an interrupted download ended.

        Raises:
            SourceError: when ModelScope refuses or keeps failing.
        """
        folder = part.with_name(part.name + ".modelscope")
        with self._explained():
            path = HubApi().download_file(self.repo, "model", name, revision=self.revision, local_dir=folder)
        Path(path).replace(part)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except NotExistError as error:
            raise SourceError(f"{self.shown} lacks the repository or a file: correct {self.named_by} (404)") from error
        except (AuthenticationError, PermissionDeniedError) as error:
            raise SourceError(f"{self.shown} refuses access: set MODELSCOPE_API_TOKEN") from error
        except NetworkError as error:
            raise SourceError(f"{self.shown} cannot be reached: check the network, or {self.elsewhere}") from error
        except HubError as error:
            raise SourceError(f"{self.shown} failed: {first_line(error)}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{self.shown} does not speak its protocol: correct MODELSCOPE_ENDPOINT") from error
