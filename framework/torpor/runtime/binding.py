"""Binding: every declaration is checked, and what is wrong is told together, before anything is opened."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from torpor.contract.checks import is_name, is_topic, problems_of
from torpor.contract.codec import topic_of
from torpor.kernel.errors import ConfigurationError, did_you_mean
from torpor.runtime.injection import Inspector, location_of
from torpor.runtime.plan import (
    Access,
    AnswererBinding,
    Handled,
    Plan,
    RouteBinding,
    SocketBinding,
    SubscriberBinding,
    TickerBinding,
)
from torpor.runtime.policies import fleeting_problems, misuse, policies_of
from torpor.runtime.publishing import asked_in, named_in, returned
from torpor.runtime.router import (
    Declaration,
    OnRequest,
    OnRoute,
    OnSchedule,
    OnSocket,
    OnTopic,
    Router,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeGuard

    from torpor.contract.event import Contract
    from torpor.kernel.auth import Auth
    from torpor.kernel.versioned import Versioned
    from torpor.runtime.injection import Call
    from torpor.runtime.options import RouteOptions, SocketOptions
    from torpor.runtime.plan import Binding
    from torpor.runtime.service import Service

_IN_PATH = r"{([A-Za-z_]\w*)(?::\w+)?}"
_OWN_OPTIONS = frozenset({"auth", "idempotency", "name", "public", "publishes", "rules", "tags"})


def bind(service: Service) -> Plan:
    """Checks a service whole, and returns how it runs. Raises ConfigurationError with every mistake."""
    return _Binder(service).bind()


class _Binder:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.problems: list[str] = []
        self.bindings: list[Binding] = []
        self.lifespans: list[Callable[[], Any]] = [f for router, *_ in _routers(service) for f in router.lifespans]
        self.inspector = Inspector(self.lifespans, self.problems)
        self._taken: dict[tuple[str, ...], Handled] = {}
        self._versions: list[tuple[str, str, Versioned | None]] = []

    def bind(self) -> Plan:
        if not is_name(self.service.name):
            self.problems.append(
                f"Service {self.service.name!r} has a name that topics and databases cannot carry. "
                "Use lower-case letters, digits, - and _, with a letter first."
            )
        for function in self.lifespans:
            if not inspect.isasyncgenfunction(function) or inspect.signature(function).parameters:
                name, where = getattr(function, "__qualname__", function), location_of(function)
                self.problems.append(
                    f"Lifespan {name!r} ({where}) must be an async generator without parameters: "
                    "async def ...() -> AsyncIterator[T]: ... yield value"
                )
        for router, prefix, tags, access in _routers(self.service):
            if router.auth is not None and router.public:
                self.problems.append(f"Router {prefix!r} of {self.service.name!r} has auth= and public=True. Drop one.")
            for declaration in router.declarations:
                self._bind_one(declaration, prefix, tags, access)
        has_sockets = any(isinstance(binding, SocketBinding) for binding in self.bindings)
        for handled in () if has_sockets else self._taken.values():
            if handled.call.uses_sockets:
                self.problems.append(
                    f"Handler {handled.name!r} ({handled.location}) asks for Sockets, and {self.service.name!r} takes "
                    "no WebSockets. Declare one with .socket(path)."
                )
        self._check_versions()
        if self.problems:
            raise ConfigurationError(self.problems)
        return Plan(self.service, self.bindings, lifespans=self.lifespans)

    def _bind_one(self, declaration: Declaration, prefix: str, tags: tuple[str, ...], access: Access) -> None:
        function, source = declaration.function, declaration.source
        if not inspect.iscoroutinefunction(function):
            self._tell(declaration, "is no coroutine. Declare it with `async def`; call blocking code in a thread.")
            return
        if isinstance(source, OnTopic):
            self._bind_topic(declaration, source)
        elif isinstance(source, OnRequest):
            self._bind_request(declaration, source)
        elif isinstance(source, OnRoute):
            self._bind_route(declaration, source, prefix, tags, access)
        elif isinstance(source, OnSocket):
            self._bind_socket(declaration, source, prefix, access)
        else:
            self._bind_schedule(declaration, source)

    def _bind_topic(self, declaration: Declaration, source: OnTopic) -> None:
        contract = source.contract
        is_sound = self._check_contract(declaration, contract, is_handled=True)
        group = source.options.get("group") or self.service.name
        if not is_name(group) and group != self.service.name:
            self._tell(declaration, f"has the group {group!r}. Use lower-case letters, digits, - and _.")
        policies, problems = policies_of(source.options)
        is_fleeting = not getattr(contract, "__torpor_durable__", True)
        problems += [*misuse(contract), *(fleeting_problems(source.options) if is_fleeting else ())]
        for problem in problems:
            self._tell(declaration, problem)
        is_batch = source.options.get("batch") is not None
        payload = list[contract] if is_batch else contract  # type: ignore[valid-type]  # a type made at run time
        call = self.inspector.inspect(declaration.function, payload=payload)
        handled = self._handled(declaration, call, returns_events=True)
        if not is_sound or problems:
            return
        topic = topic_of(contract)
        self._take(
            handled, ("topic", topic, group), f"listens to {topic!r} twice in the group {group!r}",
            'A group handles a topic once. Remove one, or give it group="...".',
        )  # fmt: skip
        if is_fleeting:
            self._refuse_step_key(declaration, call)
        self.bindings.append(SubscriberBinding(handled, contract, topic=topic, group=group, policies=policies))

    def _bind_request(self, declaration: Declaration, source: OnRequest) -> None:
        from torpor.runtime.requests import answerer_problems

        contract = source.contract
        is_sound = self._check_contract(declaration, contract, is_handled=True)
        call = self.inspector.inspect(declaration.function, payload=contract)
        handled = self._handled(declaration, call, returns_events=False)
        answer, problems = answerer_problems(source, call)
        for problem in problems:
            self._tell(declaration, problem)
        self._refuse_step_key(declaration, call)
        if not is_sound or problems:
            return
        topic = topic_of(contract)
        self._take(
            handled, ("request", topic), f"answers {contract.__name__} on {topic!r} twice",
            "A service answers a request once. Remove one.",
        )  # fmt: skip
        self.bindings.append(
            AnswererBinding(handled, contract, topic=topic, answer=answer, concurrency=source.concurrency)
        )

    def _refuse_step_key(self, declaration: Declaration, call: Call) -> None:
        if call.uses_step_key:
            self._tell(
                declaration,
                "asks for StepKey, and what it handles comes once at most: no key is ever needed again. Drop it.",
            )

    def _bind_route(
        self, declaration: Declaration, source: OnRoute, prefix: str, tags: tuple[str, ...], access: Access
    ) -> None:
        from torpor.kernel.versioned import Versioned, shape_of  # late: events alone need nothing of it
        from torpor.runtime.asked import asked_problems

        path = prefix + source.path
        call = self.inspector.inspect(declaration.function, is_route=True)
        handled = self._handled(declaration, call, returns_events=False)
        self._check_path(declaration, path, call)
        self._check_idempotency(declaration, source, call)
        below = self._access(declaration, source, call, access)
        for problem in asked_problems(call, source.method, below.rules):
            self._tell(declaration, problem)
        if below.rules is not None:
            for problem in below.rules.problems_of_cached(
                source.method,
                path,
                own=source.options.get("rules", ()),
                has_auth=below.auth is not None,
                call=call,
            ):
                self._tell(declaration, problem)
        from torpor.runtime.options import RouteOptions

        known = RouteOptions.__annotations__
        for option in source.options.keys() - known.keys():
            self._tell(declaration, f"has an unknown option {option!r}.{did_you_mean(option, known)}")
        version = None if below.rules is None else below.rules.of(Versioned)
        self._versions.append(
            (f"Handler {handled.name!r} ({handled.location})", f"{source.method} {shape_of(path)}", version)
        )
        if version is None:
            what = f"answers {source.method} {path} twice"
            self._take(handled, ("route", source.method, path), what, "Remove one.")
        options: dict[str, Any] = {k: v for k, v in source.options.items() if k not in _OWN_OPTIONS}
        options["tags"] = [*tags, *source.options.get("tags", ())]
        self.bindings.append(
            RouteBinding(
                handled,
                method=source.method,
                path=path,
                options=options,
                idempotency=source.options.get("idempotency"),
                access=below,
            )
        )

    def _bind_socket(self, declaration: Declaration, source: OnSocket, prefix: str, access: Access) -> None:
        from torpor.runtime.socketing import socket_binding

        path, options = prefix + source.path, source.options
        said, unruled = OnRoute("GET", path, _access_of(options)), OnRoute("GET", path, _access_of(options))
        said.options["rules"] = options.get("rules", ())
        handled: list[Handled | None] = []
        found: list[Access] = []
        around = Access(access.auth, is_public=access.is_public)  # rules are the socket's, and told of once
        for function in (declaration.function, options.get("connect"), options.get("disconnect")):
            if function is None:
                handled.append(None)
                continue
            is_main = function is declaration.function
            one = declaration if is_main else Declaration(function, source, name=None, publishes=())
            call = self.inspector.inspect(function, is_route=True)
            handled.append(self._handled(one, call, returns_events=False))
            found.append(self._access(one, said if is_main else unruled, call, access if is_main else around))
        binding, problems = socket_binding(path, options, handled, access=found[0])
        for problem in problems:
            self._tell(declaration, problem)
        if handled[0] is not None:
            self._take(handled[0], ("socket", path), f"takes WebSockets at {path} twice", "Remove one.")
        if binding is not None:
            self.bindings.append(binding)

    def _access(self, declaration: Declaration, source: OnRoute, call: Call, inherited: Access) -> Access:
        """Who may call a route: what it says itself, or what its router says."""
        auth: object = source.options.get("auth")
        is_public = source.options.get("public", False)
        if auth is not None and not _is_auth(auth):
            self._tell(declaration, f"has auth={auth!r}. Give a value: auth=Jwt(issuer=..., audience=...).")
            return inherited
        if auth is not None and is_public:
            self._tell(declaration, "has auth= and public=True. Drop one.")
        access = inherited
        if auth is not None or is_public:
            access = Access(auth, is_public=is_public, rules=inherited.rules)
        access = access.below(source.options.get("rules", ()))
        for problem in () if access.rules is None else access.rules.problems(has_auth=access.auth is not None):
            self._tell(declaration, problem)
        if call.caller is not None and access.auth is None:
            self._tell(declaration, "asks for Caller, and nothing finds out who calls. Give it auth=.")
        return access

    def _check_path(self, declaration: Declaration, path: str, call: Call) -> None:
        if not path.startswith("/"):
            self._tell(declaration, f"has the path {path!r}. A path starts with '/'.")
        if path.startswith("/-/"):
            self._tell(declaration, f"has the path {path!r}. Paths under /-/ are Torpor's own; choose another.")
        parameters = {parameter.name for parameter in call.foreign}
        for name in re.findall(_IN_PATH, path):
            if name not in parameters:
                hint = did_you_mean(name, parameters)
                self._tell(declaration, f"has {{{name}}} in its path, and no parameter of that name.{hint}")

    def _check_versions(self) -> None:
        if any(version is not None for _, _, version in self._versions):
            from torpor.kernel.versioned import version_problems

            self.problems += version_problems(self._versions)

    def _check_idempotency(self, declaration: Declaration, source: OnRoute, call: Call) -> None:
        policy: object = source.options.get("idempotency")
        if policy is None:
            if call.uses_step_key:
                self._tell(
                    declaration,
                    "asks for StepKey, and nothing tells it a request that comes again. "
                    "Give the route idempotency=Idempotent(required=True).",
                )
            return
        from torpor.kernel.idempotent import Idempotent

        if not isinstance(policy, Idempotent):
            self._tell(declaration, f"has idempotency={policy!r}. Give a value: idempotency=Idempotent().")
        if source.method == "GET":
            self._tell(declaration, "answers GET with idempotency=. A GET changes nothing: drop it, or use POST.")
        elif not call.uses_tx:
            self._tell(
                declaration,
                "has idempotency=, and does not ask for Tx. The answer is kept in the transaction of the effects: "
                "ask for tx: Tx.",
            )

    def _bind_schedule(self, declaration: Declaration, source: OnSchedule) -> None:
        call = self.inspector.inspect(declaration.function)
        handled = self._handled(declaration, call, returns_events=True)
        self.bindings.append(TickerBinding(handled, source.schedule, retry=source.retry))

    def _handled(self, declaration: Declaration, call: Call, *, returns_events: bool) -> Handled:
        publishes = set(declaration.publishes)
        if returns_events:
            publishes |= self._returned(declaration, call)
        if call.needs_store:
            publishes |= named_in(call)
        for contract in publishes:
            self._check_contract(declaration, contract)
        handled = Handled(
            f"{self.service.name}.{declaration.name}",
            call,
            service=self.service.name,
            publishes=tuple(publishes),
            location=location_of(declaration.function),
            asks=tuple(asked_in(call)),
        )
        self._take(handled, ("name", handled.name), "has the name of another", 'Rename one, or give it name="...".')
        return handled

    def _returned(self, declaration: Declaration, call: Call) -> set[type[Contract]]:
        if "return" not in declaration.function.__annotations__:
            self._tell(declaration, "does not say what it returns. Annotate the events it publishes, or `-> None`.")
            return set()
        source = declaration.source
        is_batch = isinstance(source, OnTopic) and source.options.get("batch") is not None
        contracts, strange = returned(call.hints.get("return"), is_batch=is_batch)
        for name in strange:
            self._tell(declaration, f"returns {name!r}, which is no event. Expected an Event, a list of them, or None.")
        return contracts

    def _check_contract(self, declaration: Declaration, contract: type[Contract], *, is_handled: bool = False) -> bool:
        """Whether a contract has a topic; what else is wrong with it is told."""
        name = getattr(contract, "__name__", repr(contract))
        topic = getattr(contract, "__torpor_topic__", None)
        if topic is None:
            self._tell(declaration, f'uses {name}, which has no topic. Write: class {name}(Event, topic="...").')
            return False
        if not is_topic(topic):
            self._tell(
                declaration,
                f"uses {name}, whose topic is {topic!r}. Expected words of letters, digits, - and _, joined by dots.",
            )
            return False
        if not is_handled and contract.__torpor_is_request__:
            self._tell(declaration, f"publishes {name}, which is a Request. Ask it: give the handler an ask: Ask.")
        for problem in problems_of(contract, is_handled=is_handled):
            self._tell(declaration, f"uses {name}, {problem}")
        return True

    def _take(self, handled: Handled, claim: tuple[str, ...], what: str, remedy: str) -> None:
        """Lets one handler have a topic in a group, a route, or a name."""
        other = self._taken.setdefault(claim, handled)
        if other is not handled:
            self.problems.append(
                f"Handler {handled.name!r} ({handled.location}) {what}: "
                f"also {other.name!r} ({other.location}). {remedy}"
            )

    def _tell(self, declaration: Declaration, text: str) -> None:
        name, where = f"{self.service.name}.{declaration.name}", location_of(declaration.function)
        self.problems.append(f"Handler {name!r} ({where}) {text}")


def _is_auth(value: object) -> TypeGuard[Auth]:
    from torpor.kernel.auth import Auth  # late: a service without routes has none

    return isinstance(value, Auth)


def _access_of(options: SocketOptions) -> RouteOptions:
    """Who may connect, as a route says it."""
    said: RouteOptions = {}
    if "auth" in options:
        said["auth"] = options["auth"]
    if "public" in options:
        said["public"] = options["public"]
    return said


def _routers(
    router: Router, prefix: str = "", tags: tuple[str, ...] = (), access: Access | None = None
) -> Iterator[tuple[Router, str, tuple[str, ...], Access]]:
    prefix, tags = prefix + router.prefix, tags + router.tags
    access = access or Access()
    if router.auth is not None or router.public:
        access = Access(router.auth, is_public=router.public, rules=access.rules)
    access = access.below(router.rules)
    yield router, prefix, tags, access
    for inner in router.routers:
        yield from _routers(inner, prefix, tags, access)
