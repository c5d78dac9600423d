"""An in-memory twin of Postgres for tests: it answers the named statements of shared/database/sql.

The repositories, `Database` and aiosql run unchanged on it; only the connections are replaced. A test that
runs random steps on both (tests/integration/test_memory_database.py) keeps it true to the SQL.
"""

from tests.memory_database.engine import MemoryPostgres

__all__ = ["MemoryPostgres"]
