"""What can go wrong on this machine when Station brings its own services and processes."""

from station.core.errors import Kind, StationError


class EmbeddedMissing(StationError):
    """The embedded PostgreSQL or Valkey is not installed here."""

    code = "embedded_missing"
    kind = Kind.UNAVAILABLE


class ServiceFailed(StationError):
    """An embedded service did not do what it was asked to."""

    code = "embedded_service_failed"
    kind = Kind.UNAVAILABLE


class PortTaken(ServiceFailed):
    """Another process listens on the wanted port."""

    code = "port_taken"


class FolderInUse(ServiceFailed):
    """Another PostgreSQL runs on this data folder."""

    code = "data_folder_in_use"


class SpawnFailed(StationError):
    """A process could not be started."""

    code = "spawn_failed"


class ChildFailed(StationError):
    """A supervised process does not stay up."""

    code = "child_failed"
    kind = Kind.UNAVAILABLE
