"""Where repositories, environments and sessions lie, and reading a repository's files with suspicion."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from himalia_hub.ephemeral.environment import LARGEST, CannotHonour, config_folder
from himalia_hub.ephemeral.models import Launch
from himalia_hub.errors import ConfigError
from himalia_hub.secrets import Secrets
from himalia_hub.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Folders:
    """The layout below one folder. Sessions' accounts pass through it, and read environments; nothing else."""

    root: Path

    def make(self) -> None:
        """Make them, with the rights they need. ConfigError says what is in the way."""
        try:
            for folder, mode in ((self.root, 0o711), (self.environments, 0o755), (self.sessions, 0o711)):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(mode)
            for folder in (self.mirrors, self.checkouts, self.cache):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(
                f"the folder {str(self.root)!r} cannot be made: {error.strerror}; change ephemeral.dir"
            ) from None

    @property
    def mirrors(self) -> Path:
        """Bare repositories, one for each address."""
        return self.root / "mirrors"

    @property
    def checkouts(self) -> Path:
        """Files of commits."""
        return self.root / "checkouts"

    @property
    def environments(self) -> Path:
        """Kernels' environments by key."""
        return self.root / "environments"

    @property
    def sessions(self) -> Path:
        """Homes of sessions by their launch's key."""
        return self.root / "sessions"

    @property
    def cache(self) -> Path:
        """The installer's."""
        return self.root / "cache"

    def mirror(self, url: str) -> Path:
        """The bare repository of this address."""
        return self.mirrors / hashlib.sha256(url.encode()).hexdigest()[:32]

    def checkout(self, url: str, commit: str) -> Path:
        """The files of this commit."""
        return self.checkouts / f"{self.mirror(url).name}-{commit}"

    def home(self, launch: Launch) -> Path:
        """The folder of its session."""
        return self.sessions / (launch.home or launch.key)

    def of(self, launch: Launch) -> tuple[Path, ...]:
        """What a launch uses: repository, files, environment."""
        return (
            self.mirror(launch.url),
            self.checkout(launch.url, launch.commit),
            self.environments / launch.environment,
        )


def folders_of(settings: HubSettings, secrets: Secrets) -> Folders:
    """Where `ephemeral.dir` says, else outside the data folder for root: that is closed to every other account."""
    if settings.ephemeral.dir is not None:
        return Folders(settings.ephemeral.dir)
    if os.geteuid() == 0:
        return Folders(Path("/var/lib/himalia", secrets.hub_id))
    return Folders(settings.data_dir / "ephemeral")


class Files(Mapping[str, str]):
    """The environment files of a repository by name, read when asked for: regular, of a bounded size, inside."""

    def __init__(self, checkout: Path) -> None:
        names = [entry.name for entry in os.scandir(checkout) if entry.is_dir(follow_symlinks=False)]
        self.folder = config_folder(names)
        """Where they lie in the repository; empty for its top."""
        self._folder = checkout / self.folder

    def __getitem__(self, name: str) -> str:
        path = PurePosixPath(name)
        if not self._is_plain(path):
            raise KeyError(name)
        data = (self._folder / path).read_bytes()
        if len(data) > LARGEST:
            raise CannotHonour(f"{name} is larger than {LARGEST / 1e6:g} MB.", remedy="Shorten the file.")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise CannotHonour(f"{name} is not UTF-8 text.", remedy="Save it as UTF-8.") from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._is_plain(PurePosixPath(name))

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _is_plain(self, path: PurePosixPath) -> bool:
        """Inside, and no part of it a symbolic link: it could lead to any file that the hub can read."""
        if path.is_absolute() or ".." in path.parts:
            return False
        here = self._folder
        for part in path.parts:
            here = here / part
            try:
                mode = here.lstat().st_mode
            except OSError:
                return False
            if stat.S_ISLNK(mode):
                return False
        return stat.S_ISREG(mode)


def closed_to_others(path: Path) -> Path | None:
    """The first part of the path that accounts besides owner and group cannot pass through; None: all is open."""
    here = next(one for one in (path, *path.parents) if one.exists())
    return next((one for one in (here, *here.parents) if not one.stat().st_mode & stat.S_IXOTH), None)


def furnish_home(checkout: Path, home: Path, uid: int | None) -> None:
    """A copy of the files as the home of a session, its account's alone. Blocking; repeating it is fine."""
    if home.exists():
        return
    draft = home.with_name(home.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(checkout, draft, symlinks=True)
    draft.chmod(0o700)
    if uid is not None:
        for folder, folders, files in os.walk(draft):
            for name in (*folders, *files):
                os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)
        os.chown(draft, uid, uid)
    os.replace(draft, home)


def clear_home(home: Path) -> None:
    """Remove a session's home, and a half-made one. Blocking. Whoever it belonged to has no process any more."""
    for folder in (home, home.with_name(home.name + ".new")):
        if folder.exists() and not folder.is_symlink():
            _let_in(folder)
            shutil.rmtree(folder)


def _let_in(folder: Path) -> None:
    """Take back the right to enter folders that a session closed; for a hub that is not root."""
    if os.geteuid() != 0:
        for here, folders, _ in os.walk(folder):
            for name in folders:
                if not os.path.islink(os.path.join(here, name)):
                    os.chmod(os.path.join(here, name), 0o700)
