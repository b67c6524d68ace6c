"""Where the files of an embedded PostgreSQL lie, and as whom it runs.

An ordinary user: in the data folder, as that user, from the wheel's own binaries.

Root: PostgreSQL must run as another user, who must reach its data and its binaries, while no
existing folder's permissions may be widened. So where `nobody` cannot enter the data folder (one
below /root, say), the data lies in a fresh folder below /var/lib/station, and the data folder has
the symbolic link `postgres` to it. Where `nobody` cannot run the wheel's binaries, a copy of them
lies beside the data, owned by root.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from station.embedded import wheels
from station.embedded.account import Account, can_enter, succeeds_as, unprivileged
from station.embedded.errors import ServiceFailed

CLUSTER = "postgres"
DRAFT = "postgres.new"
PROGRAM = "postgres-program"
ORIGIN = "BELONGS_TO"
SHARED_PLACES = (Path("/var/lib/station"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108
PROGRAM_NEEDS = ("postgres", "initdb")


@dataclass(frozen=True, kw_only=True)
class Site:
    """The folders and the account of one PostgreSQL cluster."""

    data_dir: Path
    place: Path
    """The folder that holds the cluster: the data folder itself, or one elsewhere."""
    account: Account | None
    bin: Path

    @property
    def cluster(self) -> Path:
        """PGDATA."""
        return self.place / CLUSTER

    @property
    def draft(self) -> Path:
        """Where a cluster is made before it is renamed into its place."""
        return self.place / DRAFT

    @property
    def exists(self) -> bool:
        """Whether the cluster has been made."""
        return (self.cluster / "PG_VERSION").exists()

    def link(self) -> None:
        """Record in the data folder where the cluster is, if it is elsewhere."""
        if self.place != self.data_dir:
            (self.data_dir / CLUSTER).symlink_to(self.cluster)

    def abandon(self) -> None:
        """Delete what an attempt to make the cluster has left."""
        shutil.rmtree(self.draft, ignore_errors=True)
        if self.place != self.data_dir:
            shutil.rmtree(self.place, ignore_errors=True)

    def remove(self) -> None:
        """Delete the cluster and the copy of the binaries, for good."""
        if self.place != self.data_dir:
            (self.data_dir / CLUSTER).unlink(missing_ok=True)
            shutil.rmtree(self.place)
            return
        for name in (CLUSTER, DRAFT, PROGRAM):
            shutil.rmtree(self.place / name, ignore_errors=True)


def find_site(data_dir: Path) -> Site:
    """The site of the data folder's cluster, or of the one to be made there.

    Raises:
        ServiceFailed: the cluster belongs to another user, is gone, or cannot be reached.
    """
    account = unprivileged()
    if is_recorded(data_dir):
        place, account = _existing(data_dir / CLUSTER, account)
    elif account is None or can_enter(account, data_dir):
        place = data_dir
    else:
        place = _place_elsewhere(data_dir, account)
    return Site(data_dir=data_dir, place=place, account=account, bin=_binaries(place, account))


def is_recorded(data_dir: Path) -> bool:
    """Whether the data folder has a cluster, or a link to where one is or was."""
    entry = data_dir / CLUSTER
    return entry.is_symlink() or entry.exists()


def _existing(entry: Path, account: Account | None) -> tuple[Path, Account | None]:
    if not entry.exists():
        raise ServiceFailed(
            f"The database of {entry.parent} lay in {entry.readlink()}, which is gone.",
            fix=f"Restore that folder, or delete the link {entry} to begin anew.",
        )
    cluster = entry.resolve()
    owner = cluster.stat()
    if account is None:
        if owner.st_uid != os.geteuid():
            raise ServiceFailed(
                f"{cluster} belongs to user {owner.st_uid}, and this is user {os.geteuid()}.",
                fix="Run Station as that user or as root, or choose another data folder.",
            )
        return cluster.parent, None
    account = Account(uid=owner.st_uid, gid=owner.st_gid)
    if account.uid == 0:
        raise ServiceFailed(
            f"{cluster} belongs to root, and PostgreSQL does not run as root.",
            fix="Give it to an ordinary user (chown -R), or delete it.",
        )
    if not can_enter(account, cluster):
        raise ServiceFailed(
            f"User {account.uid}, whom {cluster} belongs to, cannot enter the folders above it.",
            fix="Let that user pass (chmod o+x), or run Station as that user.",
        )
    return cluster.parent, account


def _place_elsewhere(data_dir: Path, account: Account) -> Path:
    for shared in SHARED_PLACES:
        try:
            shared.mkdir(mode=0o755, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix="station-embedded-", dir=shared))
        except OSError:
            continue
        place.chmod(0o711)
        (place / ORIGIN).write_text(f"{data_dir}\n")
        if can_enter(account, place):
            return place
        shutil.rmtree(place)
    places = ", ".join(str(place) for place in SHARED_PLACES)
    raise ServiceFailed(
        f"User {account.uid} can enter neither {data_dir} nor a folder in {places}.",
        fix="Choose a data folder that every user can pass through, or run as an ordinary user.",
    )


def _binaries(place: Path, account: Account | None) -> Path:
    installed = wheels.postgres_bin()
    if account is None or _runs(installed, account):
        return installed
    copied = place / PROGRAM
    version = wheels.postgres_version()
    stamp = copied / "VERSION"
    if not stamp.exists() or stamp.read_text() != version:
        _copy_program(copied, version)
    bin_ = copied / wheels.POSTGRES_PACKAGE / wheels.POSTGRES_TREE / "bin"
    if not _runs(bin_, account):
        raise ServiceFailed(
            f"User {account.uid} cannot run PostgreSQL from {bin_}.",
            fix="Is that file system mounted noexec? Choose another data folder.",
        )
    return bin_


def _runs(folder: Path, account: Account) -> bool:
    return all(succeeds_as(account, [str(folder / name), "--version"]) for name in PROGRAM_NEEDS)


def _copy_program(target: Path, version: str) -> None:
    """Copy what a server needs (20 MB), keeping the layout its library paths are relative to."""
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    package = wheels.postgres_package()
    tree = draft / package.name / wheels.POSTGRES_TREE
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), draft / libraries)
    for name in ("lib", "share"):
        shutil.copytree(
            package / wheels.POSTGRES_TREE / name,
            tree / name,
            ignore=shutil.ignore_patterns("*.a", "pkgconfig"),
        )
    (tree / "bin").mkdir()
    for name in PROGRAM_NEEDS:
        shutil.copy2(wheels.postgres_bin() / name, tree / "bin" / name)
    (draft / "VERSION").write_text(version)
    for path in _below(draft):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")
