"""A drill that could not be carried out: what its caller is told, and what is kept of it."""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from station.core.errors import StationError
from station.embedded.drills.history import RunRecord
from station.embedded.drills.report import Report
from station.embedded.errors import EmbeddedMissing

BUSY = "A drill wants two idle cores: try again when the machine has less to do."
_KEPT = ("log", "sink", "config.yaml", "*.log")
_MOST_JOURNALS = 200


class DrillFailed(StationError):
    """A drill could not be carried out."""

    code = "drill_failed"


class NotInTime(DrillFailed):
    """What a drill waited for did not happen in time."""


@contextlib.contextmanager
def explained(report: Report) -> Iterator[None]:
    """Whatever the machine or a service does to the block becomes a :class:`DrillFailed`.

    A reader of the drill's output that has gone is none of its failures.
    """
    from django.db.utils import Error as DatabaseError  # noqa: PLC0415 - for drills alone
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        yield
    except (BrokenPipeError, DrillFailed):
        raise
    except EmbeddedMissing as error:
        fix = "Install station[embedded]: a drill brings its own PostgreSQL and Valkey."
        raise DrillFailed(error.message, fix=fix) from error
    except StationError as error:
        raise DrillFailed(error.message, fix=_where(report) or error.fix) from error
    except (OSError, subprocess.SubprocessError) as error:
        fix = "Is there room for temporary files? TMPDIR names another place for them."
        raise DrillFailed(f"The machine refused: {error}", fix=fix) from error
    except (DatabaseError, RedisError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = _where(report) or BUSY
        raise DrillFailed(f"A service of the drill failed: {problem}", fix=fix) from error


def keep(folder: Path, drill: str, records: Sequence[RunRecord]) -> Path | None:
    """Copy the logs of the drill in ``folder``, and the journals of ``records``, out of it.

    Returns the new folder; ``None`` where it could not be written.
    """
    kept = None
    try:
        kept = Path(tempfile.mkdtemp(prefix=f"station-broken-{drill}-"))
        for pattern in _KEPT:
            for file in folder.glob(pattern):
                shutil.copyfile(file, kept / file.name)
        journals = [asdict(record) for record in records[:_MOST_JOURNALS]]
        (kept / "journals.json").write_text(json.dumps(journals, indent=1, default=str))
    except OSError:
        if kept is not None:
            shutil.rmtree(kept, ignore_errors=True)
        return None
    return kept


def _where(report: Report) -> str:
    return f"Its logs are in {report.kept}." if report.kept else ""
