"""Maps the asyncpg exceptions that mean "Postgres is unavailable"; the only place that does."""

from __future__ import annotations

import asyncpg

from shared.errors import DatabaseUnavailable, described

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server closed the connection while a command was starting
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,  # also a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,  # until the missing privilege is granted
)


# Read-only after a failover, rollbacks, out of resources, shutting down, disk errors: later it may succeed.
TRANSIENT_STATES = ("25006", "40", "53", "57", "58")


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(TRANSIENT_STATES)


class postgres_faults:  # noqa: N801 - reads as a statement
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and (isinstance(error, UNREACHABLE) or _is_transient(error)):
            raise DatabaseUnavailable(f"Postgres does not answer: {described(error)}") from error
