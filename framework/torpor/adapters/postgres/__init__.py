"""The PostgreSQL store, by asyncpg."""
