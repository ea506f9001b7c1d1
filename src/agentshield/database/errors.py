"""What a database can do to us.

UnavailableError
├── DatabaseBusyError          somebody else holds the lock longer than we wait
├── DatabaseFullError          no room left, or the file may not be written
├── DatabaseUnreachableError   no connection, or it broke; a commit that broke may or may not have happened
└── DatabaseClosedError        we are shutting down
IntegrityError
└── DatabaseCorruptError       the file is not what we wrote
ConfigurationError
├── DatabaseUrlError           the URL names nothing we can open
└── UnknownSchemaError         a newer AgentShield has been here
"""

from agentshield.errors import ConfigurationError, IntegrityError, UnavailableError


class DatabaseBusyError(UnavailableError):
    """Another process held a lock for longer than we are willing to wait. Nothing was written."""

    code = "database_busy"


class DatabaseFullError(UnavailableError):
    """There is no room left on the database's disk, or it has become read-only. Nothing was written."""

    code = "database_full"


class DatabaseUnreachableError(UnavailableError):
    """The database cannot be reached, or went away; what was being committed may or may not be there."""

    code = "database_unreachable"


class DatabaseClosedError(UnavailableError):
    """The database was closed by this process; nothing was written."""

    code = "database_closed"


class DatabaseCorruptError(IntegrityError):
    """The database file is not one, or is damaged."""

    code = "database_corrupt"


class DatabaseUrlError(ConfigurationError):
    """A database URL that names nothing we can open."""

    code = "database_url"


class UnknownSchemaError(ConfigurationError):
    """The database was migrated by a newer AgentShield than this one."""

    code = "database_schema_unknown"
