"""One suite of tests a port, for whoever writes an adapter. Subclass the suites in a test module of your own."""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{suite}"
        for suite in (
            "broker",
            "broker_progress",
            "exchange",
            "shelf",
            "store",
            "store_insert",
            "store_outbox",
            "store_parking",
            "store_requests",
            "store_sql",
            "store_tables",
            "store_timers",
            "topics",
        )
    )
)
