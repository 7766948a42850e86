"""Answers that are kept for a while: for whom, how long, and until what is forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator  # noqa: TC003  # read when a route is bound
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, Header, Request, Response, Security
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection  # noqa: TC002  # read when a route is bound

from torpor import (
    ApiKeys,
    Cached,
    Caller,
    Compressed,
    ConfigurationError,
    Cors,
    CustomAuth,
    ETags,
    Event,
    Limit,
    Router,
    Service,
    Timeout,
    Transactions,
    Tx,
)
from torpor.kernel.errors import StoreUnavailable
from torpor.ports.shelf import LARGEST
from torpor.runtime.binding import bind
from torpor.runtime.caching import Kept
from torpor.testing import TestShop

KEYS = ApiKeys({sha256(name * 32).hexdigest(): Caller(name.decode()) for name in (b"a", b"b")})


class NoteWritten(Event, topic="notes.written"):
    """A note has other words."""

    name: str


KEY_SCHEME = APIKeyHeader(name="x-key")


async def address(request: Request) -> str:
    """What a dependency makes of a request."""
    return str(request.url)


async def path(url: str = Depends(address)) -> str:
    """The same further down, said in the older way."""
    return url


class Asking:
    """What a class makes of a request."""

    def __init__(self, request: Request) -> None:
        self.url = request.url


async def language(accept_language: Annotated[str, Header()] = "") -> str:
    """What a dependency asks for by name."""
    return accept_language


class Counted:
    """A service whose routes answer with how often they ran."""

    def __init__(self, *rules: Any, **options: Any) -> None:
        self.runs = 0
        self.service = Service("counted", rules=rules, **options)

        @self.service.get("/count")
        async def count(q: str = "", many: int = 0) -> int:
            self.runs += 1
            return self.runs

    def route(self, answer: Any, *rules: Any, **options: Any) -> None:
        """Adds a route that answers with what is given."""

        @self.service.get("/other", rules=rules, response_model=None, **options)
        async def other() -> Any:
            self.runs += 1
            return answer() if callable(answer) else answer


def cached(shop: TestShop, handler: str = "counted.count") -> dict[str, int]:
    """How a handler's requests came out."""
    found = shop.hosts[0].metrics.cached
    return {outcome: count for (name, outcome), count in found.items() if name == handler}


async def bodies(shop: TestShop, *paths: str, **options: Any) -> list[Any]:
    """What requests are answered with."""
    return [(await shop.get(path, **options)).json() for path in paths]


async def test_an_answer_is_given_again_until_its_time_is_over() -> None:
    """The handler runs once, the others are told how old the answer is, and later it runs again."""
    counted = Counted(Cached(10))
    async with TestShop(counted.service) as shop:
        first = await shop.get("/count")
        await shop.advance(4)
        second = await shop.get("/count")
        assert (first.json(), second.json()) == (1, 1)
        assert "age" not in first.headers
        assert (second.headers["age"], second.headers["cache-control"]) == ("4", "max-age=10")
        assert {**second.headers, "age": ""} == {**first.headers, "age": ""}
        await shop.advance(6)
        assert await bodies(shop, "/count") == [2]
        assert cached(shop) == {"miss": 2, "hit": 1}


async def test_a_query_is_part_of_what_is_asked() -> None:
    """The order of its names does not matter; values, empty ones too, and the order of those of one name do."""
    counted = Counted(Cached(10))
    async with TestShop(counted.service) as shop:
        same = await bodies(shop, "/count?q=a&many=1", "/count?many=1&q=a", "/count?q=%61&many=1")
        assert same == [1, 1, 1]
        others = await bodies(
            shop, "/count", "/count?q=", "/count?q=a", "/count?q=a&q=b", "/count?q=b&q=a", "/count?q=A"
        )
        assert others == [2, 3, 4, 5, 6, 7]


async def test_who_has_the_answer_is_told_so() -> None:
    """An answer has a tag, and is answered 304 to who has it, kept or not, with what else is told of it."""
    counted = Counted(Cached(10))
    counted.route(lambda: Response("x", headers={"ETag": 'W/"own"'}), Cached(10))
    async with TestShop(counted.service) as shop:
        tag = (await shop.get("/count")).headers["etag"]
        await shop.advance(1)
        again = await shop.get("/count", headers={"if-none-match": f'"other", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["age"]) == (tag, "1")
        assert "content-type" not in again.headers
        assert (await shop.get("/count", headers={"if-none-match": '"other"'})).status_code == 200
        fresh = await shop.get("/other", headers={"if-none-match": '"own"'})
        assert (fresh.status_code, fresh.headers["etag"]) == (304, 'W/"own"')
        assert (await shop.get("/other")).text == "x"
        assert counted.runs == 2


async def test_many_who_ask_at_once_have_the_handler_run_once() -> None:
    """One leads, and the others are given its answer; so it is for those who ask another thing."""
    counted = Counted()
    gate = asyncio.Event()

    @counted.service.get("/slow", rules=[Cached(10, tags=["t"])])
    async def slow(q: str = "") -> str:
        counted.runs += 1
        await gate.wait()
        return q

    async with TestShop(counted.service) as shop:
        asking = [asyncio.create_task(shop.get(f"/slow?q={number % 2}")) for number in range(20)]
        await shop.until(lambda: counted.runs == 2)
        gate.set()
        assert [answer.json() for answer in await asyncio.gather(*asking)] == ["0", "1"] * 10
        assert counted.runs == 2
        assert cached(shop, "counted.slow") == {"miss": 2, "hit": 18}


async def test_a_failure_is_nobody_elses() -> None:
    """What fails, or is too late, is kept for nobody, and those who waited are answered by themselves."""
    counted = Counted()
    gate = asyncio.Event()

    @counted.service.get("/slow", rules=[Cached(10), Timeout(5)])
    async def slow() -> int:
        counted.runs += 1
        mine = counted.runs
        await gate.wait()
        if mine == 1:
            raise ValueError("no")
        return mine

    async with TestShop(counted.service) as shop:
        asking = [asyncio.create_task(shop.get("/slow")) for _ in range(3)]
        await shop.until(lambda: counted.runs == 1)
        gate.set()
        answers: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], ValueError)
        assert [answer.json() for answer in answers[1:]] == [2, 3]
        assert (await shop.get("/slow")).json() == 4
        assert cached(shop, "counted.slow") == {"passed": 3, "miss": 1}


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response("x", headers={"Set-Cookie": "a=b"}),
        lambda: Response("x", headers={"Cache-Control": "no-store"}),
        lambda: Response("x", headers={"Cache-Control": "max-age=60, Private"}),
        lambda: Response("x", headers={"Cache-Control": "no-cache"}),
        lambda: Response("x", headers={"Cache-Control": "max-age=0"}),
        lambda: Response("x", headers={"Cache-Control": "max-age=x"}),
        lambda: Response("x", headers={"Cache-Control": "s-maxage=0, max-age=60"}),
        lambda: Response("x", headers={"Vary": "Accept-Language"}),
        lambda: Response("x", headers={"Vary": "*"}),
        lambda: Response("x", status_code=404),
        lambda: Response("x", status_code=202),
        lambda: Response("x", status_code=500),
        lambda: Response("x" * (LARGEST + 1)),
        lambda: StreamingResponse(iter(["x", "y"])),
    ],
)  # fmt: skip
async def test_what_is_not_to_be_kept_is_not(answer: Any) -> None:
    """Cookies, what says so, what depends on more than was asked, failures, streams, and what is too large."""
    counted = Counted()
    counted.route(answer, Cached(10))
    async with TestShop(counted.service) as shop:
        assert (await shop.get("/other")).content == (await shop.get("/other")).content
        assert counted.runs == 2
        assert cached(shop, "counted.other") == {"passed": 2}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda: Response(status_code=204), 204),
        (lambda: RedirectResponse("/count", status_code=308), 308),
        (lambda: Response("x", headers={"Cache-Control": "public, max-age=60"}), 200),
        (lambda: Response("", headers={"Vary": "Accept-Language"}), 200),
    ],
)  # fmt: skip
async def test_other_answers_are_kept_too(answer: Any, status: int) -> None:
    """Those of which RFC 9111 says that they may be, as they were."""
    counted = Counted()
    counted.route(answer, Cached(10, vary=["Accept-Language"]))
    async with TestShop(counted.service) as shop:
        first, second = await shop.get("/other"), await shop.get("/other")
        assert [first.status_code, second.status_code] == [status, status]
        assert first.headers.get("location") == second.headers.get("location")
        assert counted.runs == 1


async def test_an_answer_may_say_how_long_it_holds() -> None:
    """The shorter of what it says and what the rule says is its time, and its own words are sent on."""
    counted = Counted()
    counted.route(lambda: Response("x", headers={"Cache-Control": "max-age=3"}), Cached(10))
    async with TestShop(counted.service) as shop:
        await shop.get("/other")
        await shop.advance(2)
        assert (await shop.get("/other")).headers["cache-control"] == "max-age=3"
        await shop.advance(1)
        await shop.get("/other")
        assert counted.runs == 2


async def test_what_is_forgotten_is_given_to_nobody() -> None:
    """Forgetting a tag takes the answers that have it away once the transaction has committed, and no others."""
    counted = Counted(Cached(60, tags=["counts"]))

    @counted.service.get("/notes/{name}", rules=[Cached(60, tags=["notes", "note:{name}"])])
    async def note(name: str) -> int:
        counted.runs += 1
        return counted.runs

    @counted.service.put("/notes/{name}")
    async def write(name: str, tx: Tx, fails: str = "") -> None:
        tx.forget(f"note:{name}")
        if fails:
            raise ValueError(name)

    @counted.service.post("/clear")
    async def clear(transactions: Transactions) -> None:
        async with transactions() as tx:
            tx.forget("notes", "counts", "nothing")

    async with TestShop(counted.service) as shop:
        paths = ["/count", "/notes/a", "/notes/b"]
        assert await bodies(shop, *paths, *paths) == [1, 2, 3, 1, 2, 3]
        assert (await shop.get("/notes/a")).headers["cache-control"] == "no-cache"
        await shop.put("/notes/a")
        assert await bodies(shop, *paths) == [1, 4, 3]
        with pytest.raises(ValueError, match="a"):
            await shop.put("/notes/a?fails=1")
        assert await bodies(shop, *paths) == [1, 4, 3]
        await shop.post("/clear")
        assert await bodies(shop, *paths, *paths) == [5, 6, 7, 5, 6, 7]


async def test_an_event_has_answers_forgotten() -> None:
    """What a handler of a topic forgets, as one does that writes a read model, is forgotten with its commit."""
    service = Service("notes", migrations={"1.sql": "CREATE TABLE note (name TEXT PRIMARY KEY, words INTEGER)"})

    @service.get("/notes", rules=[Cached(600, tags=["notes"])])
    async def notes(tx: Tx) -> list[str]:
        return [row["name"] for row in await tx.fetch("SELECT name FROM note ORDER BY name")]

    @service.on(NoteWritten)
    async def write(event: NoteWritten, tx: Tx) -> None:
        await tx.execute("INSERT INTO note VALUES ($1, 1)", event.name)
        tx.forget("notes")

    async with TestShop(service) as shop:
        assert await bodies(shop, "/notes", "/notes") == [[], []]
        await shop.publish(NoteWritten(name="a"))
        await shop.settle()
        assert await bodies(shop, "/notes") == [["a"]]
        assert await shop.parked() == []


async def test_an_answer_from_before_is_not_kept_after() -> None:
    """A handler that began before a tag was forgotten answers who asked it then, and nobody who asks later."""
    counted = Counted()
    gate = asyncio.Event()

    @counted.service.get("/slow", rules=[Cached(60, tags=["t"])])
    async def slow() -> int:
        counted.runs += 1
        mine = counted.runs
        if mine == 1:
            await gate.wait()
        return mine

    @counted.service.post("/clear")
    async def clear(tx: Tx) -> None:
        tx.forget("t")

    async with TestShop(counted.service) as shop:
        early = asyncio.create_task(shop.get("/slow"))
        await shop.until(lambda: counted.runs == 1)
        await shop.post("/clear")
        late = [asyncio.create_task(shop.get("/slow")) for _ in range(3)]
        await asyncio.sleep(0)
        gate.set()
        assert (await early).json() == 1
        assert [(await one).json() for one in late] == [2, 2, 2]
        assert (await shop.get("/slow")).json() == 2
        assert counted.runs == 2


async def test_a_slow_client_holds_nobody_up() -> None:
    """An answer is given to others, and forgotten, while the first that asked for it still reads."""
    counted = Counted(Cached(60, tags=["t"]))
    gate = asyncio.Event()
    sent: list[Any] = []

    @counted.service.post("/clear")
    async def clear(tx: Tx) -> None:
        tx.forget("t")

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)
        await gate.wait()

    async with TestShop(counted.service) as shop:
        asked = {"type": "http", "method": "GET", "path": "/count", "query_string": b"", "root_path": ""}
        slow = {**asked, "scheme": "http", "headers": [(b"host", b"torpor.test")], "client": ("127.0.0.1", 1)}
        reading = asyncio.create_task(shop._running.app(slow, receive, send))
        await shop.until(lambda: bool(sent))
        assert await bodies(shop, "/count") == [1]
        await shop.post("/clear")
        assert await bodies(shop, "/count", "/count") == [2, 2]
        gate.set()
        await reading
        assert await bodies(shop, "/count") == [2]


async def test_each_caller_has_answers_of_his_own() -> None:
    """Behind a guard nobody is given what another was, and no cache on the way may keep it."""
    counted = Counted(Cached(10), auth=KEYS)
    counted.route(lambda: Response("x", headers={"Cache-Control": "private, max-age=5"}), Cached(10, by="caller"))
    async with TestShop(counted.service) as shop:
        a, b = ({"x-api-key": name * 32} for name in "ab")
        assert [*await bodies(shop, "/count", "/count", headers=a), *await bodies(shop, "/count", headers=b)] == [
            1,
            1,
            2,
        ]
        assert (await shop.get("/count", headers=a)).headers["cache-control"] == "private, max-age=10"
        assert (await shop.get("/count")).status_code == 401
        await shop.get("/other", headers=a)
        await shop.get("/other", headers=a)
        assert counted.runs == 3


async def test_another_token_of_a_caller_may_have_other_answers() -> None:
    """Tenant, roles and scopes are part of who asks; when a token was issued is not."""

    async def known(headers: Any) -> Caller:
        claims = {"org": headers["x-org"], "exp": int(headers["x-exp"]), "jti": headers["x-exp"]}
        return Caller("ada", roles=headers["x-roles"].split(), claims=claims)

    service = Service("tenants", auth=CustomAuth(known), rules=[Cached(10)])

    @service.get("/org")
    async def org(caller: Caller) -> list[Any]:
        return [caller.claims["org"], sorted(caller.roles)]

    async with TestShop(service) as shop:
        asked = [("a", "1", "x y"), ("a", "2", "y x"), ("b", "3", "x y"), ("a", "4", "x")]
        answers = [
            await shop.get("/org", headers={"x-org": org, "x-exp": exp, "x-roles": roles}) for org, exp, roles in asked
        ]
        assert [answer.json()[0] for answer in answers] == ["a", "a", "b", "a"]
        assert ["age" in answer.headers for answer in answers] == [False, True, False, False]


async def test_an_answer_may_be_everyones_behind_a_guard() -> None:
    """When that is said, those who are let in share it, and the others are refused still."""
    counted = Counted(Cached(10, by="everyone"), auth=KEYS)
    async with TestShop(counted.service) as shop:
        answers = [await shop.get("/count", headers={"x-api-key": name * 32}) for name in "ab"]
        assert [answer.json() for answer in answers] == [1, 1]
        assert answers[1].headers["cache-control"] == "private, max-age=10"
        assert (await shop.get("/count")).status_code == 401


async def test_the_headers_that_a_handler_asks_for_tell_requests_apart() -> None:
    """Headers, cookies and those of its dependencies, and what `vary` names; others do not."""
    service = Service("varied", rules=[Cached(10)])

    @service.get("/one")
    async def one(
        spoken: Annotated[str, Depends(language)],
        x_tenant: Annotated[str, Header()] = "",
        session: Annotated[str, Cookie()] = "",
    ) -> list[str]:
        return [spoken, x_tenant, session]

    async with TestShop(service) as shop:
        asked = [{"accept-language": "de"}, {"x-tenant": "t"}, {"cookie": "session=s"}, {"x-other": "o"}, {}]
        answers = [await shop.get("/one", headers=headers) for headers in asked]
        assert [answer.json() for answer in answers] == [
            ["de", "", ""], ["", "t", ""], ["", "", "s"], ["", "", ""], ["", "", ""],
        ]  # fmt: skip
        assert ["age" in answer.headers for answer in answers] == [False, False, False, False, True]
        assert answers[0].headers["vary"] == "accept-language, cookie, x-tenant"


async def test_a_handler_that_sees_the_whole_request_must_say_for_whom() -> None:
    """What it reads is not known, be it the handler itself, a dependency, or a scheme of FastAPI's."""

    async def one(request: Request) -> str:
        return request.headers.get("x-tenant", "")

    async def two(url: Annotated[str, Depends(address)]) -> str:
        return url

    async def three(given: Annotated[str, Depends(KEY_SCHEME)]) -> str:
        return given

    for handler in (one, two, three):
        service = Service("seeing", rules=[Cached(10)])
        service.get("/one")(handler)
        with pytest.raises(ConfigurationError, match=r"handed the whole request.*by=\"everyone\""):
            async with TestShop(service) as shop:
                await shop.get("/one")
    said = Service("seeing")
    said.get("/one", rules=[Cached(10, by="everyone", vary=["X-Tenant"])])(one)
    async with TestShop(said) as shop:
        answers = [await shop.get("/one", headers={"x-tenant": tenant}) for tenant in "aba"]
        assert [answer.json() for answer in answers] == ["a", "b", "a"]
        assert "age" in answers[2].headers


def test_whoever_is_handed_the_whole_request_is_told_with_all_other_mistakes() -> None:
    """Before FastAPI is there: of the handler, of each dependency of FastAPI's however deep and however it is said, and
    of nobody else."""

    async def by_connection(connection: HTTPConnection) -> str: ...
    async def by_default(url: str = Depends(address)) -> str: ...
    async def by_depth(url: Annotated[str, Depends(path)]) -> str: ...
    async def by_class(asking: Annotated[Asking, Depends()]) -> str: ...
    async def by_part(url: Annotated[str, Depends(partial(path))]) -> str: ...
    async def by_scheme(given: Annotated[str, Security(KEY_SCHEME)]) -> str: ...
    async def by_name(language: Annotated[str, Depends(language)], x: Annotated[str, Header()] = "") -> str: ...

    service = Service("seeing", public=True, rules=[Cached(10)])
    for function in (by_connection, by_default, by_depth, by_class, by_part, by_scheme, by_name):
        service.get(f"/{function.__name__}")(function)
        service.post(f"/{function.__name__}", name=f"{function.__name__}_post")(function)
        service.get(f"/{function.__name__}/said", name=f"{function.__name__}_said", rules=[Cached(1, by="everyone")])(
            function
        )
        service.get(f"/{function.__name__}/off", name=f"{function.__name__}_off", rules=[Cached(0)])(function)
    service.get("/known", name="known", auth=KEYS)(by_class)
    service.get("wrong", name="wrong")(by_name)
    with pytest.raises(ConfigurationError) as refused:
        bind(service)
    told = [problem for problem in refused.value.problems if "handed the whole request" in problem]
    assert [problem.split("'")[1] for problem in told] == [
        f"seeing.by_{name}" for name in ("connection", "default", "depth", "class", "part", "scheme")
    ]
    (other,) = set(refused.value.problems) - set(told)
    assert "A path starts with '/'" in other


async def test_what_is_kept_is_compressed_already() -> None:
    """Who takes gzip and who does not are given answers of their own, each with its tag."""
    service = Service("packed", rules=[Cached(10), Compressed(10), ETags()])

    @service.get("/one")
    async def one(x_tenant: Annotated[str, Header()] = "") -> list[str]:
        return ["word"] * 100

    async with TestShop(service) as shop:
        for encoding in ("gzip", "identity", "br, gzip;q=0.5", ""):
            answer = await shop.get("/one", headers={"accept-encoding": encoding})
            assert answer.json() == ["word"] * 100
            assert ("content-encoding" in answer.headers) is ("gzip" in encoding)
            assert answer.headers["vary"] == "Accept-Encoding, x-tenant"
            again = await shop.get(
                "/one", headers={"accept-encoding": encoding, "if-none-match": answer.headers["etag"]}
            )
            assert again.status_code == 304
        assert cached(shop, "packed.one") == {"miss": 2, "hit": 6}


async def test_limits_and_cors_stand_before_what_is_kept() -> None:
    """A kept answer is counted, and told to pages of other origins by who asks now."""
    counted = Counted(Cached(100), Limit(2, per=10), Cors("https://a.example", "https://b.example"))
    async with TestShop(counted.service) as shop:
        answers = [await shop.get("/count", headers={"origin": f"https://{name}.example"}) for name in "abc"]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[1].headers["access-control-allow-origin"] == "https://b.example"
        assert answers[1].headers["ratelimit"].startswith('"client";r=0')
        assert counted.runs == 1


async def test_a_part_is_not_asked_of_what_is_kept() -> None:
    """A request for a range goes to the handler."""
    counted = Counted(Cached(10))
    async with TestShop(counted.service) as shop:
        await shop.get("/count", headers={"range": "bytes=0-1"})
        await shop.get("/count", headers={"range": "bytes=0-1"})
        assert counted.runs == 2


async def test_other_methods_and_routes_that_say_so_keep_nothing() -> None:
    """A rule of the service is for its GET routes, but for those with Cached(0)."""
    counted = Counted(Cached(10))
    counted.route(lambda: counted.runs, Cached(0))

    @counted.service.post("/count")
    async def add() -> int:
        counted.runs += 1
        return counted.runs

    async with TestShop(counted.service) as shop:
        assert [(await shop.post("/count")).json() for _ in range(2)] == [1, 2]
        assert await bodies(shop, "/other", "/other") == [3, 4]


class Broken:
    """A shelf whose backend is away when it is told so."""

    def __init__(self, shelf: Any) -> None:
        self.promises = shelf.promises
        self.is_away = False
        self.asked = 0
        self._shelf = shelf

    async def find(self, keys: Any) -> Any:
        await self._check()
        return await self._shelf.find(keys)

    async def put(self, key: str, value: bytes, **options: Any) -> Any:
        await self._check()
        return await self._shelf.put(key, value, **options)

    async def remove(self, keys: Any) -> None:
        await self._check()
        await self._shelf.remove(keys)

    async def _check(self) -> None:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("It is switched off.")


async def test_without_its_backend_the_handler_answers(caplog: pytest.LogCaptureFixture) -> None:
    """While what is shared is away every request is handled, that is told once, and what was forgotten meanwhile is
    forgotten when it is back."""
    counted = Counted(Cached(600, tags=["counts"]))

    @counted.service.post("/clear")
    async def clear(tx: Tx) -> None:
        tx.forget("counts")

    async with TestShop(counted.service) as shop:
        host = shop.hosts[0]
        assert host.shelf is not None
        broken = host.shelf._shelf = Broken(host.shelf._shelf)  # type: ignore[assignment]
        assert await bodies(shop, "/count", "/count") == [1, 1]
        broken.is_away = True
        with caplog.at_level(logging.INFO):
            assert await bodies(shop, "/count", "/count", "/count") == [2, 3, 4]
            assert (await shop.post("/clear")).status_code == 200
        told = [record.getMessage() for record in caplog.records if "replicas share" in record.getMessage()]
        assert told == ["what the replicas share does not work: It is switched off."]
        assert host.is_ready
        assert host.metrics.shared_failed == 1
        broken.is_away = False
        await shop.clock.advance(2.5)
        await shop.settle()
        assert await bodies(shop, "/count", "/count") == [5, 5]


async def test_what_may_have_been_committed_is_forgotten() -> None:
    """When nobody can tell whether a commit was done, what it would have changed is given to nobody."""
    counted = Counted(Cached(600, tags=["counts"]))

    @counted.service.post("/clear")
    async def clear(tx: Tx) -> None:
        tx.forget("counts")

    async with TestShop(counted.service) as shop:
        assert await bodies(shop, "/count", "/count") == [1, 1]
        store = shop.hosts[0].store
        shop.hosts[0].store = Ambiguous(store)  # type: ignore[assignment]
        assert (await shop.post("/clear")).status_code == 503
        shop.hosts[0].store = store
        await shop.settle()
        assert await bodies(shop, "/count") == [2]


class Ambiguous:
    """A store whose commits are done, and not confirmed."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Any]:
        async with self._store.unit() as unit:
            commit = unit.commit

            class Unconfirmed:
                def __getattr__(self, name: str) -> Any:
                    return getattr(unit, name)

                async def commit(self) -> None:
                    await commit()
                    raise StoreUnavailable("The connection was lost.")

            yield Unconfirmed()


async def test_without_its_backend_nobody_waits_for_another() -> None:
    """Those who ask the same at once are all handled when nobody can tell what was forgotten; answers without tags are
    given to all who waited."""
    counted = Counted()
    gate = asyncio.Event()

    async def slow() -> int:
        counted.runs += 1
        mine = counted.runs
        await gate.wait()
        return mine

    counted.service.get("/tagged", name="tagged", rules=[Cached(60, tags=["t"])])(slow)
    counted.service.get("/plain", name="plain", rules=[Cached(60)])(slow)
    async with TestShop(counted.service) as shop:
        host = shop.hosts[0]
        assert host.shelf is not None
        broken = host.shelf._shelf = Broken(host.shelf._shelf)  # type: ignore[assignment]
        broken.is_away = True
        for path, runs in (("/tagged", [1, 2, 3]), ("/plain", [4, 4, 4])):
            gate.clear()
            asking = [asyncio.create_task(shop.get(path)) for _ in range(3)]
            await shop.until(lambda first=runs[0]: counted.runs == first)
            gate.set()
            assert sorted([(await one).json() for one in asking]) == runs


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seconds": -1}, "expected seconds from 0"),
        ({"seconds": float("nan")}, "expected seconds from 0"),
        ({"seconds": 1e9}, "a week"),
        ({"seconds": 1, "by": "client"}, "expected caller or everyone"),
        ({"seconds": 1, "tags": "orders"}, "expected a list of tags"),
        ({"seconds": 1, "tags": [""]}, "expected a list of tags"),
        ({"seconds": 1, "vary": ["a b"]}, "expected a list of headers"),
    ],
)
def test_a_value_that_means_nothing_is_refused(arguments: dict[str, Any], told: str) -> None:
    """It is told when the value is made."""
    with pytest.raises(ConfigurationError, match=told):
        Cached(**arguments)


def test_a_rule_that_cannot_hold_is_refused() -> None:
    """Callers that nobody knows, another's answer, a method that keeps none, a parameter that is not there."""
    service = Service("wrong")

    @service.get("/a", rules=[Cached(1, by="caller")])
    async def unknown() -> None: ...

    @service.get("/b", auth=KEYS, rules=[Cached(1, by="everyone")])
    async def anothers(caller: Caller) -> None: ...

    @service.post("/c", rules=[Cached(1)])
    async def post() -> None: ...

    @service.get("/d/{id}", rules=[Cached(1, tags=["d:{name}"])])
    async def named(id: str) -> None: ...

    with pytest.raises(ConfigurationError) as raised:
        bind(service)
    told = "\n".join(raised.value.problems)
    assert len(raised.value.problems) == 4
    for part in (
        "nothing finds out who calls",
        "given what is another's",
        "Only the answers to GET",
        "no parameter of",
    ):
        assert part in told


def test_what_another_version_has_put_is_not_read() -> None:
    """An answer of another form, or that is none, is as if it were not there."""
    kept = Kept(200, [(b"a", b"\xff")], b"\n\x00", at=1.0, until=2.0, tokens={"t": "x"})
    read = Kept.decode(kept.encode())
    assert read is not None
    assert (read.status, read.headers, read.body, read.tokens) == (200, [(b"a", b"\xff")], b"\n\x00", {"t": "x"})
    for strange in (b"", b"{}", b"[2, 200]\n", b"[2,200,[],1,2,{}]\nx", b"7\n", b'"abcdef"\n'):
        assert Kept.decode(strange) is None


async def test_a_stream_is_sent_as_it_comes() -> None:
    """Its begin is not held back, and who asks at the same time does not wait for it."""
    service = Service("streaming")
    gates = [asyncio.Event(), asyncio.Event()]
    begun: list[int] = []

    @service.get("/one", rules=[Cached(10)], response_model=None)
    async def one() -> StreamingResponse:
        mine = len(begun)
        begun.append(mine)

        async def parts() -> AsyncIterator[str]:
            await gates[mine].wait()
            yield "x"
            yield "y"

        return StreamingResponse(parts())

    async with TestShop(service) as shop:
        asking = [asyncio.create_task(shop.get("/one")) for _ in range(2)]
        await shop.until(lambda: len(begun) == 2)
        for gate in gates:
            gate.set()
        assert [answer.text for answer in await asyncio.gather(*asking)] == ["xy", "xy"]


async def test_openapi_tells_of_it() -> None:
    """A route whose answers are kept may answer 304."""
    counted = Counted(Cached(10))
    async with TestShop(counted.service) as shop:
        operation = (await shop.get("/openapi.json")).json()["paths"]["/count"]["get"]
        assert "304" in operation["responses"]


async def test_only_texts_are_forgotten() -> None:
    """A list in place of its tags is refused where it is written, and not after the commit."""
    service = Service("strange")

    @service.post("/clear")
    async def clear(tx: Tx) -> None:
        tx.forget(["a"])  # type: ignore[arg-type]

    async with TestShop(service) as shop:
        with pytest.raises(ConfigurationError, match=r"tx.forget\(\['a'\]\).*\*tags"):
            await shop.post("/clear")


async def test_two_services_and_routers_keep_apart() -> None:
    """A route's answers are its own, whatever the paths of others look like."""
    one, inner = Service("one", rules=[Cached(10)]), Router(prefix="/b")

    @one.get("/a/{name:path}")
    async def first(name: str) -> str:
        return f"first {name}"

    @inner.get("/{name}")
    async def second(name: str) -> str:
        return f"second {name}"

    one.include(inner)
    async with TestShop(one) as shop:
        paths = ["/a/x", "/a/b/x", "/b/x", "/a/x"]
        assert await bodies(shop, *paths) == ["first x", "first b/x", "second x", "first x"]
