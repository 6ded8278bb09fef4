"""Reads a folder of this machine. Knows paths and bytes; the engine decides what a file means.

Secrets (``is_private``), folders of version control, the server's own data and anything whose real path is outside the
connected folder are never read, whatever the configuration says. They are not even yielded.
"""

import errno
import fcntl
import hashlib
import os
import re
import stat
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, Field, field_validator

from airweave_server.sdk import (
    Breadcrumb,
    ConfigError,
    Context,
    Deleted,
    Entity,
    Items,
    Partition,
    Skipped,
    Source,
    Unavailable,
    Unreadable,
    is_private,
    is_private_name,
)
from airweave_server.sdk.globs import Globs, is_glob, split_lines

PARTITIONS = 8  # up to so many top-level folders get a partition each; more are dealt into so many groups
SCOPE = "tree"  # one for all partitions: only together do they prove that a file is gone
CURSOR_EVERY_ITEMS = 50
CURSOR_EVERY_NAMES = 1_000  # of names that yielded nothing
CURSOR_EVERY_BYTES = 4_000_000  # of the files that were yielded
MAX_DEPTH = 200  # of nested folders
GITIGNORE_LIMIT = 1_000_000  # bytes of all .gitignore files that apply to a file: each costs time for each name
GLOB_LIMIT = 1_000  # characters of one that is configured
MB = 1_000_000
CLOCK_TICK_NS = 20_000_000  # two writes within a tick of the file system's clock can get the same times
COARSE_TICK_NS = 2_000_000_000  # on a file system that stores whole seconds
DIGEST_BYTES = 16

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SERVER_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # the server lacks resources; the folder may be fine
PSEUDO_FILE_SYSTEMS = ("/proc", "/sys", "/dev")
READABLE_BY_ALL = 0o444
ACCESS_AS_EFFECTIVE_USER = os.access in os.supports_effective_ids


class FolderConfig(BaseModel):
    """Globs are those of ``.gitignore``: ``*.md`` matches at any depth, ``/docs/`` only at the top, ``!`` negates."""

    path: str = Field(description="The folder to read: an absolute path, or one that begins with ~.")
    include: list[str] = Field(
        default=[], max_length=200, description="Read only files that match these globs. Empty: all files."
    )
    exclude: list[str] = Field(
        default=[], max_length=200, description="Do not read files and folders that match these globs."
    )
    gitignore: bool = Field(default=True, description="Do not read what .gitignore files in the folder exclude.")
    max_file_mb: float = Field(
        default=20, gt=0, le=10_000, allow_inf_nan=False, description="Skip files larger than this, in MB."
    )

    @field_validator("path")
    @classmethod
    def _must_be_absolute(cls, path: str) -> str:
        if "\0" in path:
            raise ValueError("must not contain NUL")
        if not os.path.isabs(os.path.expanduser(path)):
            raise ValueError("must be an absolute path, or begin with ~")
        return path

    @field_validator("include", "exclude")
    @classmethod
    def _must_be_globs(cls, globs: list[str]) -> list[str]:
        for glob in globs:
            if len(glob) > GLOB_LIMIT or not is_glob(glob):
                raise ValueError(f"{glob!r} is not a glob")
        return globs


class FolderCursor(BaseModel):
    """``after``: the id of the last file that was read or, with a slash at its end, of the last folder that is done.
    ``listed``: a digest of all folders as they were when they were listed, up to here."""

    after: str
    listed: str = ""


class Folder(Source[FolderConfig, FolderCursor]):
    """Reads a folder recursively, always in the same order: the files of a folder by name, then its folders by name.

    An entity's id is its path below the folder, with slashes. Bytes of a name that are not UTF-8 are written as ``%80``
    to ``%FF``. A percent sign in a name is written as ``%25`` only where it could be mistaken for one of these. So
    ``100%.md`` is unchanged, no two files share an id, and each id identifies its file.

    A symlink to a file is read if that file is also in the connected folder. Symlinks to folders are not followed.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "Folder"
    description: ClassVar[str] = "Files and folders on the machine that the server runs on."
    labels: ClassVar[tuple[str, ...]] = ("Files",)
    entity_types: ClassVar[tuple[str, ...]] = ("FileEntity",)
    local: ClassVar[bool] = True
    lists_cheaply: ClassVar[bool] = True

    def __init__(
        self, config: FolderConfig, credentials: BaseModel | None = None, context: Context | None = None
    ) -> None:
        super().__init__(config, credentials, context)
        self._path = os.path.expanduser(config.path)
        self._limit = int(config.max_file_mb * MB)
        self._included = Globs(map(os.fsencode, config.include))
        self._excluded = Globs(map(os.fsencode, config.exclude))

    def check(self) -> None:
        """Raise ``ConfigError`` if the folder is missing, not readable, or outside the roots."""
        path = self._confine()
        if not os.path.lexists(path):
            raise ConfigError(f"there is no folder {self.config.path}")
        if not os.path.isdir(path):
            raise ConfigError(f"{self.config.path} is not a folder")
        if not os.access(path, os.R_OK | os.X_OK, effective_ids=ACCESS_AS_EFFECTIVE_USER):
            raise ConfigError(f"{self.config.path} may not be read by the user that the server runs as")

    def partitions(self) -> Iterator[Partition]:
        """Yield a partition for each top-level folder, or for groups of them, and one with the key ``""`` for all else.

        Each records the inode and device of the folder, so that ``read`` notices if it has been unmounted.
        """
        with self._open_root() as root:
            top = self._top(root)
            folders = list(self._below(top, self._list(root, root.fd, top)))
            identity = {"inode": root.inode, "device": root.device}
        if len(folders) > PARTITIONS:
            yield Partition(key="", scope=SCOPE, data=identity | {"grouped": True})
            for group in range(PARTITIONS):
                yield Partition(key=f"group {group}", scope=SCOPE, data=identity | {"group": group})
        else:
            yield Partition(key="", scope=SCOPE, data=identity | {"others": [folder.id for folder in folders]})
            for folder in folders:
                yield Partition(key=folder.id + "/", scope=SCOPE, data=identity)

    @classmethod
    def never_reads(cls, entity_id: str) -> bool:
        return is_private(_path_of(entity_id).split("/"))

    def read(self, partition: Partition, cursor: FolderCursor | None) -> Items[FolderCursor]:
        """Yield the files of the partition.

        Raises ``Unavailable`` if the connected folder is missing, cannot be listed or has been replaced, which is also
        checked at the end: files that were not seen must not count as gone then. A folder below it that cannot be
        listed is yielded as a skipped subtree.
        """
        with self._open_root() as root:
            root.check_identity(partition.data)
            top = self._top(root, after=_path_of(cursor.after).split("/") if cursor else ())
            digest = _Digest(cursor.listed if cursor else "")
            yield from self._walk(root, top, partition, digest, place=cursor.after if cursor else "")
            root.check_still_there()

    def _top(self, root: "_Root", after: Sequence[str] = ()) -> "_Folder":
        """The connected folder itself, where a walk begins."""
        return _Folder(
            name=os.path.basename(root.place.path),
            after=after,
            includes=_Applied(self._included, self._included.start),
            excludes=_Applied(self._excluded, self._excluded.start),
            url_prefix=f"file://{quote(os.fsencode(root.place.path)).rstrip('/')}/",
        )

    def changed_since(self, partition: Partition, cursor: FolderCursor | None) -> bool:
        """Whether a folder of the partition has other entries, or was changed, since ``read`` listed it.

        Lists all folders again and opens no file. Raises as ``read`` does.
        """
        if cursor is None or not cursor.listed:
            return False
        with self._open_root() as root:
            root.check_identity(partition.data)
            digest = _Digest()
            for _ in self._walk(root, self._top(root), partition, digest, files=False):
                pass
            root.check_still_there()
        return digest.value != cursor.listed

    def _walk(
        self,
        root: "_Root",
        top: "_Folder",
        partition: Partition,
        digest: "_Digest",
        *,
        place: str = "",
        files: bool = True,
    ) -> Items[FolderCursor]:
        """Walk down folder by folder, without recursion and with one folder open at a time. The last item is a cursor.

        ``place``: the id that the cursor names. Without ``files``, only the folders are listed.
        """
        due = 0.0  # at 1 a cursor is due
        has_waited = False
        pending = [_Pending(top, iter([top]))]
        if partition.key.endswith("/"):
            # one top-level folder: the rules at the top are needed, the other folders are not
            listing = self._list(root, root.fd, top, names=False)
            listing.folders.append(_path_of(partition.key[:-1]))
            pending = [_Pending(top, self._below(top, listing))]
        while pending:
            self.context.check()
            self.context.alive()
            folder = next(pending[-1].folders, None)
            if folder is None:
                done = pending.pop().folder
                due += 1 / CURSOR_EVERY_NAMES
                if done is not top:
                    place = done.id + "/"
                    if due >= 1:
                        yield FolderCursor(after=place, listed=digest.value)
                        due = 0
                continue
            try:
                fd = root.open(folder.path, FOLDER_FLAGS)
            except OSError as error:
                due += 1 / CURSOR_EVERY_ITEMS
                digest.add_unlistable(folder)
                yield _skip_unlistable(folder, error, top)
                place = folder.id + "/"
                continue
            try:
                if files and not has_waited and (fresh_s := _fresh_s(os.fstat(fd))):
                    self.context.sleep(fresh_s)  # once: otherwise the folder counts as changed, and is read again
                    has_waited = True
                listing = self._list(root, fd, folder)
                if folder is top and "group" in partition.data:
                    listing.files = []  # these belong to the partition ""
                    listing.folders = [name for name in listing.folders if _group_of(name) == partition.data["group"]]
                    digest.add_names(folder, listing)
                else:
                    digest.add(folder, listing, is_read=files)
                names = listing.files_after(folder.after)
                for name in names if files else ():
                    self.context.check()
                    item = self._read_item(root, fd, folder, name)
                    if item is None:
                        due += 1 / CURSOR_EVERY_NAMES
                    else:
                        due += 1 / CURSOR_EVERY_ITEMS
                        if isinstance(item, Entity):
                            due += (item.size_bytes or 0) / CURSOR_EVERY_BYTES
                        yield item
                    if due >= 1:
                        yield FolderCursor(after=folder.id_prefix + _id_of(name), listed=digest.value)
                        due = 0
                if names:
                    place = folder.id_prefix + _id_of(names[-1])
            except (OSError, Unreadable) as error:
                due += 1 / CURSOR_EVERY_ITEMS
                digest.add_unlistable(folder)
                yield _skip_unlistable(folder, error, top)
                place = folder.id + "/"
                continue
            finally:
                os.close(fd)
            folders = self._below(folder, listing)
            if folder is top:
                folders = _select_folders(partition, folders)
            if len(folder.ancestors) > MAX_DEPTH:
                for deeper in folders:
                    yield Skipped(deeper.id, f"nested deeper than {MAX_DEPTH} folders", deeper.name, subtree=True)
                place = folder.id + "/"
                continue
            pending.append(_Pending(folder, folders))
        yield FolderCursor(after=place, listed=digest.value)

    def _list(self, root: "_Root", fd: int, folder: "_Folder", *, names: bool = True) -> "_Listing":
        """List an open folder in the order of the walk, and add its identity and its rules to ``folder``.

        Raises ``Unreadable`` if its ``.gitignore`` cannot be read, because that may keep something private.
        """
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino)
        listing = _Listing(found)
        if identity in root.hidden or found.st_dev in root.hidden_devices or identity in folder.ancestors:
            listing.is_hidden = True
            return listing
        folder.ancestors = (*folder.ancestors, identity)
        if self.config.gitignore:
            globs = _read_gitignore(fd, allowed_bytes=GITIGNORE_LIMIT - folder.gitignore_bytes)
            if globs is not None:
                folder.gitignores = (*folder.gitignores, _Applied(globs, globs.start))
                folder.gitignore_bytes += globs.size_bytes
        if names:
            with os.scandir(fd) as entries:
                for entry in entries:
                    (listing.folders if entry.is_dir(follow_symlinks=False) else listing.files).append(entry.name)
            listing.files.sort(key=os.fsencode)
            listing.folders.sort(key=os.fsencode)
        return listing

    def _below(self, folder: "_Folder", listing: "_Listing") -> Iterator["_Folder"]:
        """The folders in ``folder`` that are to be read, starting at the cursor."""
        for name in listing.folders_after(folder.after):
            if is_private((folder.name, name)) or self._is_excluded(folder, name, is_folder=True):
                continue
            after = folder.after[1:] if name in folder.after[:1] else ()
            included = self._is_included(folder, name, is_folder=True)
            yield folder.below(name, after=after, included=included)

    def _is_excluded(self, folder: "_Folder", name: str, *, is_folder: bool) -> bool:
        """Whether the configuration or a ``.gitignore`` excludes this name in ``folder``."""
        if self.config.exclude and folder.excludes.verdict(name, is_folder=is_folder):
            return True
        for applied in reversed(folder.gitignores):
            verdict = applied.verdict(name, is_folder=is_folder)
            if verdict is not None:
                return verdict
        return False

    def _is_included(self, folder: "_Folder", name: str, *, is_folder: bool) -> bool:
        """Whether ``include`` matches this name or a folder above it."""
        if not self.config.include:
            return True
        verdict = folder.includes.verdict(name, is_folder=is_folder)
        return folder.included if verdict is None else verdict

    def _read_item(self, root: "_Root", fd: int, folder: "_Folder", name: str) -> Entity | Skipped | Deleted | None:
        """The entity of one name in an open folder, or why it is skipped; None if it is excluded or gone.

        ``Deleted`` if only the target of a link shows that the file is never read: an earlier version may have.
        """
        if is_private_name(name):
            return None
        if self._is_excluded(folder, name, is_folder=False) or not self._is_included(folder, name, is_folder=False):
            return None
        path = folder.prefix + name
        id = folder.id_prefix + _id_of(name)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                target = root.resolve_link(path)
                if target is None:
                    return Deleted(id)
                with root.open_parent(target) as (target_fd, target_name):
                    found = os.stat(target_name, dir_fd=target_fd, follow_symlinks=False)
                    if found in root.own:
                        return Deleted(id)
                    return self._make_entity(root, target_fd, folder, id, name, target, found)
            if found in root.own:
                return Deleted(id)
            return self._make_entity(root, fd, folder, id, name, path, found)
        except FileNotFoundError:
            return None
        except Unreadable as error:
            return Skipped(id, str(error), _to_printable(name))
        except OSError as error:
            _raise_if_server_error(error)
            return Skipped(id, _describe(error), _to_printable(name))

    def _make_entity(
        self, root: "_Root", fd: int, folder: "_Folder", id: str, name: str, path: str, found: os.stat_result
    ) -> Entity | Skipped:
        """``path``: of the content, relative to the root. ``fd``: the open folder of the content."""
        printable = _to_printable(name)
        if not stat.S_ISREG(found.st_mode):
            is_folder = stat.S_ISDIR(found.st_mode)
            return Skipped(id, f"it is {_describe_kind(found.st_mode)}, not a file", printable, subtree=is_folder)
        size = found.st_size
        if size > self._limit:
            return Skipped(id, self._describe_too_large(size), printable)
        if found.st_mode & READABLE_BY_ALL != READABLE_BY_ALL and not os.access(
            os.path.basename(path), os.R_OK, dir_fd=fd, effective_ids=ACCESS_AS_EFFECTIVE_USER
        ):
            return Skipped(id, _describe(PermissionError(errno.EACCES, "")), printable)
        return Entity(
            id=id,
            name=printable,
            type="FileEntity",
            version=_make_version(found),
            open=partial(self._open, root.place, path, (found.st_dev, found.st_ino)),
            filename=printable,
            size_bytes=size,
            breadcrumbs=folder.breadcrumbs,
            created_at=_to_datetime(getattr(found, BIRTHTIME)) if hasattr(os.stat_result, BIRTHTIME) else None,
            updated_at=_to_datetime(found.st_mtime),
            url=folder.url_prefix + (name if UNQUOTED.fullmatch(name) else quote(os.fsencode(name))),
            fields={"path": id, "size": size, "extension": _extension(printable)},
        )

    def _open(self, place: "_Place", path: str, identity: tuple[int, int]) -> BinaryIO:
        """Open a file for reading. Raises ``Unreadable`` if it is no longer the regular file that was listed."""
        try:
            with place.open() as root:
                try:
                    fd = root.open(path, FILE_FLAGS)
                except OSError as error:
                    _raise_if_server_error(error)
                    raise Unreadable(_describe(error)) from None
        except OSError as error:
            raise Unavailable(f"the folder {self.config.path} cannot be read: {_describe(error)}") from None
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != identity:
            os.close(fd)
            raise Unreadable("it was replaced while it was read; the next sync reads it")
        if found.st_size > self._limit:
            os.close(fd)
            raise Unreadable(self._describe_too_large(found.st_size))
        return os.fdopen(fd, "rb")

    def _describe_too_large(self, size: int) -> str:
        return f"too_large: {size / MB:.1f} MB, the limit is {self.config.max_file_mb:g} MB"

    def _confine(self, path: str | None = None) -> str:
        """The real path of the folder. Raises ``ConfigError`` if the server may not read it."""
        path = path or os.path.realpath(self._path)
        if not self.context.folder_roots:
            raise ConfigError("this server may read no folder: name the folders in AIRWEAVE_FOLDER_ROOTS")
        # checked first, so that the error does not tell whether something outside exists
        if not any(_is_within(path, os.path.realpath(root)) for root in self.context.folder_roots):
            raise ConfigError(
                f"{self.config.path} is outside the folders that this server may read (AIRWEAVE_FOLDER_ROOTS)"
            )
        ours = [os.path.realpath(hidden) for hidden in self.context.hidden_paths]
        never = (*ours, *PSEUDO_FILE_SYSTEMS)
        if any(_is_within(path, hidden) for hidden in never) or not _pseudo_devices().isdisjoint(_devices([path])):
            raise ConfigError(f"{self.config.path} is never read: it belongs to this server or to the system")
        if is_private(Path(path).parts):
            raise ConfigError(f"{self.config.path} is never read: folders of this name hold secrets or internals")
        return path

    @contextmanager
    def _open_root(self) -> Iterator["_Root"]:
        """Open the connected folder. Raises ``Unavailable`` if it cannot be read as a whole."""
        try:
            place = _Place.at(self._confine())
            with place.open(self._path, self.context.hidden_paths) as root:
                # in case a parent was replaced by a symlink after the first check
                self._confine(_real_path_of(root.fd))
                if (root.device, root.inode) in root.hidden:
                    raise ConfigError(f"{self.config.path} is never read: it belongs to this server or to the system")
                yield root
        except OSError as error:
            _raise_if_server_error(error)
            raise Unavailable(f"the folder {self.config.path} cannot be read: {_describe(error)}") from None
        except Unreadable as error:
            raise Unavailable(f"the folder {self.config.path} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that was opened once, and the identity by which it is recognized."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> "_Place":
        found = os.stat(path)
        return cls(path, found.st_dev, found.st_ino)

    @contextmanager
    def open(self, configured: str = "", own: Sequence[Path] = ()) -> Iterator["_Root"]:
        """Open it. ``own``: the server's own folders, in which nothing is read.

        Raises ``Unavailable`` if it was replaced, ``OSError`` if it cannot be opened.
        """
        fd = os.open(self.path, FOLDER_FLAGS)
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != (self.device, self.inode):
                raise Unavailable(f"the folder {_to_printable(self.path)} was replaced while it was read")
            hidden = frozenset(_identities((*own, *PSEUDO_FILE_SYSTEMS)))
            yield _Root(self, fd, configured or self.path, hidden, _pseudo_devices(), _OwnFiles(own))
        finally:
            os.close(fd)


class _OwnFiles:
    """The files in the server's own folders, as ``stat`` shows them, under whatever name they are met.

    Only a hard link can be met elsewhere, so they are not listed before the first file with several links.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._known: frozenset[tuple[int, int]] | None = None

    def __contains__(self, found: os.stat_result) -> bool:
        if found.st_nlink < 2 or not self._folders:
            return False
        if self._known is None:
            files = (os.path.join(at, name) for top in self._folders for at, _, names in os.walk(top) for name in names)
            self._known = frozenset(_identities(files))
        return (found.st_dev, found.st_ino) in self._known


@dataclass(frozen=True, slots=True)
class _Root:
    """The connected folder while it is open. Paths are relative to it; undecodable bytes are surrogate escapes."""

    place: _Place
    fd: int
    configured: str
    hidden: frozenset[tuple[int, int]]
    hidden_devices: frozenset[int]
    own: "_OwnFiles"

    @property
    def device(self) -> int:
        return self.place.device

    @property
    def inode(self) -> int:
        return self.place.inode

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise ``Unavailable`` if this is not the folder that the partitions were listed from.

        An empty mount point has a different inode from the file system mounted on it. A different device number proves
        nothing, since it may change when the machine restarts, unless the folder is empty now.
        """
        if identity.get("inode", self.inode) != self.inode or (
            identity.get("device", self.device) != self.device and not os.listdir(self.fd)
        ):
            raise Unavailable(
                f"the folder {_to_printable(self.configured)} was replaced or unmounted since the job began"
            )

    def check_still_there(self) -> None:
        """Raise ``Unavailable`` if the configured path now leads elsewhere or nowhere."""
        try:
            found = os.stat(self.configured)
        except OSError as error:
            raise Unavailable(
                f"the folder {_to_printable(self.configured)} went away while it was read: {error.strerror}"
            ) from None
        if (found.st_dev, found.st_ino) != (self.device, self.inode):
            raise Unavailable(f"the folder {_to_printable(self.configured)} was replaced while it was read")

    def open(self, path: str, flags: int) -> int:
        """Open a path below the folder step by step, so that a symlink put in its way cannot lead out of the folder."""
        if not path:
            return os.open(".", flags, dir_fd=self.fd)
        with self.open_parent(path) as (fd, name):
            return os.open(name, flags, dir_fd=fd)

    @contextmanager
    def open_parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the parent folder of ``path``. Yields its descriptor and the last part of the path."""
        *parents, name = path.split("/")
        fd = self.fd
        try:
            for parent in parents:
                deeper = os.open(parent, FOLDER_FLAGS, dir_fd=fd)
                if fd != self.fd:
                    os.close(fd)
                fd = deeper
            yield fd, name
        finally:
            if fd != self.fd:
                os.close(fd)

    def resolve_link(self, path: str) -> str | None:
        """The target of a symlink, relative to this folder; None if it is a folder or something that is never read.

        Raises ``Unreadable`` if it leads outside or nowhere.
        """
        full = os.path.join(self.place.path, path)
        target = os.path.realpath(full)
        if not _is_within(target, self.place.path):
            raise Unreadable("symlink: it leads out of the folder")
        try:
            found = os.stat(target)
        except OSError as error:
            raise Unreadable(f"symlink: {_describe(error)}") from None
        parts = target[len(self.place.path) :].strip("/").split("/")
        if is_private(parts):
            return None
        above = (os.path.join(self.place.path, *parts[:end]) for end in range(len(parts)))
        if stat.S_ISDIR(found.st_mode) or not self.hidden.isdisjoint(_identities(above)):
            return None
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class _Applied:
    """Globs in one of the folders on the walk."""

    globs: Globs
    state: int

    def verdict(self, name: str, *, is_folder: bool) -> bool | None:
        return self.globs.verdict(self.state, name, is_folder=is_folder)

    def below(self, name: str) -> "_Applied":
        return _Applied(self.globs, self.globs.enter(self.state, name))


NO_GLOBS = _Applied(Globs(()), 0)


@dataclass(slots=True)
class _Folder:
    """A folder on the walk. ``after``: the parts of a cursor, after which to continue in it."""

    name: str = ""
    path: str = ""
    id: str = ""
    after: Sequence[str] = ()
    breadcrumbs: tuple[Breadcrumb, ...] = ()
    included: bool = False
    includes: _Applied = NO_GLOBS
    excludes: _Applied = NO_GLOBS
    gitignores: tuple[_Applied, ...] = ()
    gitignore_bytes: int = 0
    ancestors: tuple[tuple[int, int], ...] = ()  # device and inode of each, its own last
    url_prefix: str = ""
    prefix: str = field(init=False)
    id_prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = f"{self.path}/" if self.path else ""
        self.id_prefix = f"{self.id}/" if self.id else ""

    def below(self, name: str, *, after: Sequence[str], included: bool) -> "_Folder":
        id = self.id_prefix + _id_of(name)
        return _Folder(
            name=name,
            path=self.prefix + name,
            id=id,
            after=after,
            breadcrumbs=(*self.breadcrumbs, Breadcrumb(id, _to_printable(name), "folder")),
            included=included,
            includes=self.includes.below(name),
            excludes=self.excludes.below(name),
            gitignores=tuple(applied.below(name) for applied in self.gitignores),
            gitignore_bytes=self.gitignore_bytes,
            ancestors=self.ancestors,
            url_prefix=f"{self.url_prefix}{quote(os.fsencode(name))}/",
        )


@dataclass(slots=True)
class _Listing:
    """Names in a folder, in the order of their bytes. ``found``: the folder itself, from before it was listed.
    ``is_hidden``: nothing in it is read, such as in the server's own data directory."""

    found: os.stat_result
    is_hidden: bool = False
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def files_after(self, after: Sequence[str]) -> Sequence[str]:
        if not after:
            return self.files
        if len(after) > 1:  # the cursor is further down, so the files are done
            return ()
        return self.files[bisect_right(self.files, os.fsencode(after[0]), key=os.fsencode) :]

    def folders_after(self, after: Sequence[str]) -> Sequence[str]:
        if len(after) < 2:
            return self.folders
        is_done = list(after[1:]) == [""]
        bisect = bisect_right if is_done else bisect_left
        return self.folders[bisect(self.folders, os.fsencode(after[0]), key=os.fsencode) :]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A folder on the walk, and the folders in it that are still to be read."""

    folder: _Folder
    folders: Iterator[_Folder]


def _select_folders(partition: Partition, folders: Iterable[_Folder]) -> Iterator[_Folder]:
    """The top-level folders that a partition reads. ``""`` reads those created since the partitions were listed."""
    if partition.data.get("grouped"):
        return
    others = set(partition.data.get("others", ()))
    yield from (folder for folder in folders if folder.id not in others)


def _group_of(name: str) -> int:
    """The group that a top-level folder belongs to."""
    return zlib.crc32(os.fsencode(name)) % PARTITIONS


class _Digest:
    """A digest of the folders that a walk listed, in order: their names, their entries and when they changed.

    Moving an entry changes the times of both folders, and those of a folder that is moved itself. A folder counts once,
    as it was when it was listed first: at a cursor within it, it is listed again.
    """

    def __init__(self, value: str = "") -> None:
        self._value = bytes.fromhex(value)

    @property
    def value(self) -> str:
        return self._value.hex()

    def add(self, folder: _Folder, listing: _Listing, *, is_read: bool) -> None:
        """Add a folder, unless it is hidden. ``is_read``: its files are read from this listing."""
        if listing.is_hidden:
            return
        # it may still change and have the same times: then it must equal no later listing
        fresh = "fresh" if is_read and _fresh_s(listing.found) else ""
        self._add(folder, f"{listing.found.st_mtime_ns}-{listing.found.st_ctime_ns}{fresh}", listing)

    def add_names(self, folder: _Folder, listing: _Listing) -> None:
        """Add a folder that others may change: only its entries, not its times."""
        self._add(folder, "names", listing)

    def add_unlistable(self, folder: _Folder) -> None:
        self._add(folder, "unlistable", None)

    def _add(self, folder: _Folder, what: str, listing: _Listing | None) -> None:
        if folder.after:
            return
        added = hashlib.blake2b(self._value, digest_size=DIGEST_BYTES)
        names = (*listing.files, "", *listing.folders) if listing is not None else ()
        for name in (folder.path, what, *names):
            added.update(os.fsencode(name) + b"\0")
        self._value = added.digest()


def _skip_unlistable(folder: _Folder, error: Exception, top: _Folder) -> Skipped:
    """The folder as a skipped subtree. Raises ``Unavailable`` instead if it is the connected folder itself."""
    if isinstance(error, OSError):
        _raise_if_server_error(error)
    reason = _describe(error) if isinstance(error, OSError) else str(error)
    if folder is top:
        raise Unavailable(f"the folder cannot be listed: {reason}") from None
    if isinstance(error, FileNotFoundError):
        reason = "vanished while it was listed"
    elif isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
        reason = "was replaced while it was listed"
    return Skipped(folder.id, reason, _to_printable(folder.name), subtree=True)


def _read_gitignore(fd: int, *, allowed_bytes: int) -> Globs | None:
    """Read the ``.gitignore`` of an open folder; None if there is none. As in git, a symlink is ignored.

    Raises ``Unreadable`` if it exists but cannot be read or has more than ``allowed_bytes``.
    """
    try:
        file = os.open(".gitignore", FILE_FLAGS, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EMLINK):
            return None
        _raise_if_server_error(error)
        raise Unreadable(f"its .gitignore cannot be read: {error.strerror}") from None
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        text = opened.read(allowed_bytes + 1)
    if len(text) > allowed_bytes:
        alone = "" if allowed_bytes == GITIGNORE_LIMIT else "with those above it, "
        raise Unreadable(f"its .gitignore cannot be read: {alone}it is too large")
    return Globs(split_lines(text))


BIRTHTIME = "st_birthtime"  # missing on some systems
UNQUOTED = re.compile("[A-Za-z0-9_.~-]*+")
AMBIGUOUS = re.compile("%(?=25|[89A-F][0-9A-F])|[\udc80-\udcff]")
ESCAPED = re.compile("%(25|[89A-F][0-9A-F])")


def _id_of(name: str) -> str:
    """The form of a name in an id; see ``Folder``."""
    if (name.isascii() and "%" not in name) or AMBIGUOUS.search(name) is None:
        return name
    return AMBIGUOUS.sub(lambda found: "%25" if found[0] == "%" else f"%{ord(found[0]) - 0xDC00:02X}", name)


def _path_of(id: str) -> str:
    """The path of an id."""
    return ESCAPED.sub(lambda found: "%" if found[1] == "25" else chr(0xDC00 + int(found[1], 16)), id)


def _to_printable(name: str) -> str:
    """A name that can be shown and stored: undecodable bytes become the replacement character."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _extension(name: str) -> str:
    """The extension as by ``os.path.splitext``, in lower case: empty for ``.profile``."""
    stem, dot, end = name.rpartition(".")
    return (dot + end).lower() if stem.strip(".") else ""


def _to_datetime(seconds: float) -> datetime | None:
    """The time in UTC; None if it is out of the range of ``datetime``."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _make_version(found: os.stat_result) -> str | None:
    """What tells that a file changed. A program can set the mtime back, but not the ctime.

    None if the file changed so recently that another write could still get the same times: the next job opens it.
    """
    if _fresh_s(found):
        return None
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"


def _fresh_s(found: os.stat_result) -> float:
    """Seconds during which another change could still get the same times; 0 if none could."""
    tick_ns = COARSE_TICK_NS if found.st_ctime_ns % 1_000_000_000 == 0 else CLOCK_TICK_NS
    age_ns = time.time_ns() - found.st_ctime_ns
    return (tick_ns - age_ns) / 1e9 if abs(age_ns) < tick_ns else 0.0


def _raise_if_server_error(error: OSError) -> None:
    """Raise ``Unavailable`` for an error that says nothing about the file, such as too many open files."""
    if error.errno in SERVER_ERRNOS:
        raise Unavailable(f"the server cannot open more files: {error.strerror}") from None


def _describe(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "may not be read by the user that the server runs as"
    if isinstance(error, FileNotFoundError):
        return "it is gone"
    if error.errno == errno.ELOOP:
        return "it is a symlink by now, or leads round in a circle"
    return f"cannot be read: {error.strerror}"


def _describe_kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder by now"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _identities(paths: Iterable[str | Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        yield found.st_dev, found.st_ino


def _devices(paths: Iterable[str | Path]) -> frozenset[int]:
    return frozenset(device for device, _ in _identities(paths))


def _pseudo_devices() -> frozenset[int]:
    """The devices of file systems that are never read, wherever else they are mounted."""
    return _devices(PSEUDO_FILE_SYSTEMS) - _devices(["/"])


def _real_path_of(fd: int) -> str | None:
    """The present path of an open folder; None if the system does not tell."""
    if hasattr(fcntl, "F_GETPATH"):
        return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
