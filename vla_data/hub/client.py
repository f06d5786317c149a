"""The few calls to the Hub that sending a dataset needs, through ``huggingface_hub``."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_data.errors import DataError, MachineError, UsageError, VerifyError
from vla_data.installed import missing
from vla_data.safety.files import opened, read_file
from vla_data.safety.text import show

Content = bytes | Path
_NETWORK: Final = ("httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of a repository.

    Attributes:
        size: bytes.
        sha256: of a large file; None: of a small one Git's own digest is known.
        blob: Git's SHA-1 of what it stores.
    """

    size: int
    sha256: str | None
    blob: str

    def is_same(self, content: Content, sha256: str, size: int) -> bool:
        """Whether it has this content."""
        if size != self.size:
            return False
        if self.sha256 is not None:
            return self.sha256 == sha256
        data = content if isinstance(content, bytes) else read_file(content, root=content.parent, anything=True)[0]
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == self.blob


class Repository:
    """A dataset's repository on the Hub.

    Args:
        name: ``owner/name``.

    Raises:
        MissingExtraError: E006, huggingface_hub is not installed.
    """

    def __init__(self, name: str) -> None:
        try:
            import huggingface_hub
        except ModuleNotFoundError as error:
            if error.name != "huggingface_hub":
                raise
            raise missing("huggingface_hub", "hf") from None
        self._hub: Any = huggingface_hub
        self._api: Any = huggingface_hub.HfApi()
        self.name = name

    @property
    def url(self) -> str:
        """Its page."""
        return f"{self._api.endpoint}/datasets/{self.name}"

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Turn what the Hub or the network answers into errors of ours.

        Raises:
            UsageError: E001 for a name that is none.
            MachineError: E702 where it is not allowed, E703 for everything else.
        """
        try:
            yield
        except self._hub.errors.HFValidationError as error:
            raise UsageError("E001", f"{show(self.name)} is no OWNER/NAME ({show(error)[:120]})") from None
        except Exception as error:
            causes = list(_causes(error))
            answers = [cause for cause in causes if isinstance(cause, self._hub.errors.HfHubHTTPError)]
            if not answers and not any(isinstance(cause, OSError) or _is_network(cause) for cause in causes):
                # The client takes an answer to be what it should be: it fails in many ways where it is not.
                said = f"{type(error).__name__}: {show(error, escaped=True)[:120]}"
                raise MachineError(
                    "E703",
                    f"cannot {what} {show(self.name)}: {show(self._api.endpoint)} answers as no Hub does ({said})",
                ) from error
            status = answers[0].response.status_code if answers and answers[0].response is not None else None
            if status in (401, 403):
                raise MachineError(
                    "E702", f"the Hub does not let you {what} {show(self.name)} ({status}): hf auth login"
                ) from None
            said = f"it answered {status}" if status else show(error)[:120]
            raise MachineError(
                "E703", f"cannot {what} {show(self.name)} ({said}); run it again: what is there is not sent again"
            ) from None

    def create(self, *, private: bool) -> None:
        """Create it, unless it is there."""
        with self._asked("create"):
            self._api.create_repo(self.name, repo_type="dataset", private=private, exist_ok=True)

    def files(self) -> dict[str, Remote]:
        """Path -> file, of everything that it has."""
        with self._asked("list"):
            out = {}
            for entry in self._api.list_repo_tree(self.name, recursive=True, repo_type="dataset"):
                if isinstance(entry, self._hub.hf_api.RepoFile):
                    large = None if entry.lfs is None else str(entry.lfs.sha256)
                    out[str(entry.path)] = Remote(int(entry.size), large, str(entry.blob_id))
        return out

    def commit(
        self, content: Mapping[str, Content], digests: Mapping[str, str], without: Sequence[str], message: str
    ) -> str:
        """Send files, and remove some, in one commit; returns its id.

        Args:
            content: path in the repository -> what is sent.
            digests: SHA-256 of each.
            without: paths to remove.
            message: of the commit.

        Raises:
            VerifyError: E601, a file is no longer what was verified.
        """
        with ExitStack() as stack:
            operations = [self._add(path, data, digests[path], stack) for path, data in content.items()]
            operations += [self._hub.CommitOperationDelete(path) for path in without]
            stack.enter_context(self._asked("write to"))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", UserWarning)  # that the card has no licence, which we have said
            done = self._api.create_commit(self.name, operations, commit_message=message, repo_type="dataset")
            return str(done.oid)

    def _add(self, path: str, data: Content, digest: str, stack: ExitStack) -> Any:
        """What sends a file: the very one that is opened here, so that no other, as of a link, is sent for it."""
        changed = VerifyError("E601", f"{show(path)} changed after it was verified, and is not sent")
        try:
            opening = data if isinstance(data, bytes) else stack.enter_context(opened(data, root=data.parent))
            made = self._hub.CommitOperationAdd(path, opening)
        except DataError:
            raise changed from None
        if made.upload_info.sha256.hex() != digest:
            raise changed
        return made

    def head(self) -> str:
        """The id of its last commit."""
        with self._asked("read"):
            return str(self._api.repo_info(self.name, repo_type="dataset").sha)

    def tags(self) -> dict[str, str]:
        """Tag -> id of its commit."""
        with self._asked("read"):
            refs = self._api.list_repo_refs(self.name, repo_type="dataset")
            return {str(tag.name): str(tag.target_commit) for tag in refs.tags}

    def tag(self, name: str, *, again: bool) -> None:
        """Give the last commit a tag; ``again``: another one has it."""
        with self._asked("tag"):
            if again:
                self._api.delete_tag(self.name, tag=name, repo_type="dataset")
            self._api.create_tag(self.name, tag=name, repo_type="dataset")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised for: uploads in threads wrap what the Hub answered."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_network(error: BaseException) -> bool:
    """Whether it is of the packages by which the client speaks to the network."""
    return type(error).__module__.partition(".")[0] in _NETWORK
