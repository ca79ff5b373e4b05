"""Locust on the load generator's own connections, figures and results.

`locust -f benchmarks/load/locustfile.py --host http://127.0.0.1:8000/v1 --model NAME`, with the web
page, or `--headless`, `--csv`, `--html`, `--processes`. One event a request: its time is E2E from
when it was due, in milliseconds. `--result` is written as `inhouse bench run` writes one.
"""

import datetime
import gc
import hashlib
import logging
import os
import random
import time
from pathlib import Path
from typing import Any, Final

import gevent
import orjson
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from benchmarks.load.blocking import BlockingConnection
from benchmarks.load.conduct import Account, result_of
from benchmarks.load.flight import Flight, reader_of
from benchmarks.load.gathering import Gathering
from benchmarks.load.metrics import PRESETS, e2e_s, meets, preset
from benchmarks.load.result import Objective, Row, save
from benchmarks.load.shapes import Kind, Shape
from benchmarks.load.target import Target, target
from benchmarks.load.trace import WORDS, arrivals
from benchmarks.load.workload import Api, Message, Planned

LAG_PERIOD_S: Final = 0.005
TURNS: Final = 4
"""Questions of one session; each carries the answers before it, made up."""
DRAIN_S: Final = 30.0
SPREAD_S: Final = 1.0
AFTER_FAILURE_S: Final = 1.0
"""A user who was refused does not ask again at once: refusals would be all there is."""
NOTE: Final = "closed loop: users wait for their answers, so a slow server is asked less"
SHAPES: Final[tuple[Kind, ...]] = ("constant", "ramp", "spike", "step", "trace")
KINDS: Final = ("chat", "responses", "embeddings", "session")

log = logging.getLogger(__name__)


class RequestFailed(Exception):
    """How a request ended, for Locust's table of failures."""


class Running:
    """What the users of this process share."""

    def __init__(self) -> None:
        self.gathered = Gathering()
        self.started = datetime.datetime.now(datetime.UTC)
        self.origin_s = time.perf_counter()
        self.cpu_s = time.process_time()
        self.ended_s: float | None = None

    @property
    def seconds(self) -> float:
        return (self.ended_s or time.perf_counter()) - self.origin_s

    @property
    def cpu_share(self) -> float:
        return (time.process_time() - self.cpu_s) / max(self.seconds, 1e-9)


test = Running()


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="", help="The model's name there.")
    add("--embedding-model", default="", help="For embeddings; the other one without.")
    add("--kinds", default="chat", help=f"Of users, with commas: {', '.join(KINDS)}.")
    add("--key-env", default="", help="The environment variable that holds the key.")
    add("--cap-field", default="max_completion_tokens",
        choices=("max_completion_tokens", "max_tokens"))  # fmt: skip
    add("--prompt-tokens", type=int, default=128)
    add("--answer-tokens", type=int, default=64)
    add("--pace-s", type=float, default=0.0,
        help="Each user asks so often, and counts from when it was due.")  # fmt: skip
    add("--timeout-s", type=float, default=600.0)
    add("--seed", type=int, default=1)
    add("--shape", default="constant", choices=SHAPES)
    add("--peak-users", type=int, default=8)
    add("--duration-s", type=float, default=60.0)
    add("--step-s", type=float, default=30.0, help="Of `step`: how long so many users are kept.")
    add("--step-users", type=int, default=1, help="Of `step`: how many more then.")
    add("--trace", default="", help="Of `trace`: Azure's (.csv) or Mooncake's (.jsonl).")
    add("--slo", default="llama3.1-8b:server", choices=tuple(PRESETS))
    add("--ceiling", type=float, default=0.0,
        help="Chunks a second that this client can time rightly; 0: not known.")  # fmt: skip
    add("--result", default="", help="The file that the result is written to.")


class ApiUser(User):
    """A user who asks, waits for the answer, and asks again."""

    abstract = True
    api: Api = "chat"

    def on_start(self) -> None:
        """Each user has a connection of its own, as people have."""
        options = self.environment.parsed_options
        assert options is not None
        self.options = options
        self.target = _target(self.environment, self.api)
        self.connection = BlockingConnection(self.target, options.timeout_s)
        self.rng = random.Random(f"{options.seed}/{id(self)}/{time.time_ns()}")
        # Users that begin at one instant keep step: their tokens would come all at once.
        gevent.sleep(self.rng.uniform(0, SPREAD_S))
        self.due_s = time.perf_counter()

    def on_stop(self) -> None:
        """Its connection ends with it."""
        self.connection.close()

    def wait_time(self) -> float:
        """Until the next is due; nothing without a pace."""
        return max(0.0, self.due_s - time.perf_counter())

    def text(self) -> str:
        """A prompt of its own."""
        return " ".join(self.rng.choices(WORDS, k=self.options.prompt_tokens))

    @task
    def ask(self) -> None:
        """One request, one event."""
        planned = self.planned()
        intended_s = self.due_s if self.options.pace_s else time.perf_counter()
        self.due_s += self.options.pace_s
        flight = Flight(planned, intended_s, reader_of(planned))
        # Before each first message, so that only requests of one session share a beginning.
        salt = planned.session or self.number()
        opened = self.connection.opened
        try:
            self.connection.fly(flight, self.target.encoded(planned, salt, {}))
        except gevent.GreenletExit:
            flight.lost, flight.detail = "timeout", "not at its end when the test was"
            flight.end_s = time.perf_counter()
            raise
        finally:
            test.gathered.connections += self.connection.opened - opened
            self._tell(flight.row(test.origin_s))

    def planned(self) -> Planned:
        """The next request."""
        message = Message(role="user", content=self.text())
        return Planned(
            id=0, offset_s=0, api=self.api, messages=(message,),
            max_tokens=self.options.answer_tokens,
        )  # fmt: skip

    def number(self) -> str:
        """A word that nobody else has."""
        return f"{self.rng.randrange(16**12):012x}"

    def _tell(self, row: Row) -> None:
        test.gathered.add(row)
        if row.outcome != "ok":
            self.due_s = max(self.due_s, time.perf_counter() + AFTER_FAILURE_S)
        failed = None if row.outcome == "ok" else RequestFailed(f"{row.outcome}: {row.detail}")
        took_s = e2e_s(row) if failed is None else (row.end_s or row.intended_s) - row.intended_s
        self.environment.events.request.fire(
            request_type="POST", name=type(self).__name__.removesuffix("User").lower(),
            response_time=(took_s or 0.0) * 1000, response_length=row.completion_tokens or 0,
            exception=failed, context={},
        )  # fmt: skip
        if test.gathered.full and self.environment.runner is not None:
            log.warning("no more rows can be kept: the test ends")
            self.environment.runner.quit()


class ChatUser(ApiUser):
    """`/chat/completions`, each time about something else."""


class ResponsesUser(ApiUser):
    """`/responses`, not stored."""

    api = "responses"


class EmbeddingsUser(ApiUser):
    """`/embeddings`, one text."""

    api = "embeddings"

    def planned(self) -> Planned:
        """The next text."""
        return Planned(id=0, offset_s=0, api=self.api, texts=(self.text(),))


class SessionUser(ApiUser):
    """Conversations: each question carries what was said before, so a prefix cache can help."""

    def on_start(self) -> None:
        super().on_start()
        self.said: list[Message] = []
        self.session = self.number()

    def planned(self) -> Planned:
        """The next question of the conversation; after the last, of a new one."""
        if len(self.said) + 1 >= 2 * TURNS:
            self.said, self.session = [], self.number()
        if self.said:
            answer = " ".join(self.rng.choices(WORDS, k=self.options.answer_tokens))
            self.said.append(Message(role="assistant", content=answer))
        self.said.append(Message(role="user", content=self.text()))
        return Planned(
            id=0, offset_s=0, messages=tuple(self.said), session=self.session,
            max_tokens=self.options.answer_tokens,
        )  # fmt: skip


_BY_KIND: Final = dict(
    zip(KINDS, (ChatUser, ResponsesUser, EmbeddingsUser, SessionUser), strict=True)
)


class Load(LoadTestShape):
    """The shape that `--shape` names."""

    def tick(self) -> tuple[int, float, list[type[User]]] | None:
        """Users now; all kinds alike."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        shape, at_s = _shape(options), self.get_run_time()
        count = shape.users(at_s, _attainment(shape, at_s, preset(options.slo)))
        if count is None:
            return None
        kinds = [_BY_KIND[name] for name in options.kinds.split(",")]
        return count, float(max(count, 1)), list[type[User]](kinds)


_shapes: dict[str, Shape] = {}


def _shape(options: Any) -> Shape:
    """Made once: a trace is read for it."""
    if "it" not in _shapes:
        rows = arrivals(Path(options.trace)) if options.shape == "trace" else []
        _shapes["it"] = Shape(
            options.shape, options.peak_users, options.duration_s, options.step_s,
            options.step_users, tuple(sorted(one.offset_s for one in rows)),
        )  # fmt: skip
    return _shapes["it"]


def _attainment(shape: Shape, at_s: float, objective: Objective) -> float | None:
    """Of the requests that ended in the step before this one; None before the second."""
    step = shape.step(at_s)
    if shape.kind != "step" or step == 0:
        return None
    begin_s, end_s = (step - 1) * shape.step_s, step * shape.step_s
    rows = [row for row in test.gathered.rows if begin_s <= (row.end_s or -1.0) < end_s]
    return sum(meets(row, objective) for row in rows) / len(rows) if rows else None


def _target(environment: Environment, api: Api) -> Target:
    options = environment.parsed_options
    assert options is not None
    model = options.embedding_model or options.model if api == "embeddings" else options.model
    return target(
        environment.host or "", model, os.environ, options.key_env or None, options.cap_field
    )


@events.init.add_listener
def _check(environment: Environment, **_: Any) -> None:
    """What is wrong with the options is said before anybody asks anything."""
    options = environment.parsed_options
    assert options is not None
    unknown = set(options.kinds.split(",")) - set(KINDS)
    if unknown:
        raise SystemExit(f"--kinds {options.kinds}: give any of {', '.join(KINDS)}")
    _target(environment, "chat")
    # Requests that are under way at the end are the slow ones: they are waited for.
    environment.stop_timeout = environment.stop_timeout or min(options.timeout_s, DRAIN_S)
    if isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(_merge)
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(_report)
    gevent.spawn(_watch)


@events.test_start.add_listener
def _begin(**_: Any) -> None:
    global test  # noqa: PLW0603 - Locust's events are functions of the module
    # What is there by now is never looked at again: each look would stop all users.
    gc.collect()
    gc.freeze()
    test = Running()


@events.test_stop.add_listener
def _end(**_: Any) -> None:
    test.ended_s = time.perf_counter()


def _watch() -> None:
    while True:
        due_s = time.perf_counter() + LAG_PERIOD_S
        gevent.sleep(LAG_PERIOD_S)
        test.gathered.lags_s.append(max(0.0, time.perf_counter() - due_s))


def _report(client_id: str, data: dict[str, Any]) -> None:
    data["inhouse"] = test.gathered.report(test.cpu_share)


def _merge(client_id: str, data: dict[str, Any]) -> None:
    if "inhouse" in data:
        test.gathered.merge(client_id, data["inhouse"])


@events.quitting.add_listener
def _write(environment: Environment, **_: Any) -> None:
    """The result, of a test without workers or of the master's."""
    options = environment.parsed_options
    assert options is not None
    rows = tuple(test.gathered.rows)
    if isinstance(environment.runner, WorkerRunner) or not rows:
        return
    names = ("kinds", "prompt_tokens", "answer_tokens", "pace_s", "seed", "shape", "peak_users",
             "duration_s", "step_s", "step_users", "trace")  # fmt: skip
    asked = orjson.dumps({name: getattr(options, name) for name in names})
    result = result_of(
        Account(
            driver="locust", workload=f"locust {options.kinds} {options.shape}",
            workload_sha256=hashlib.sha256(asked).hexdigest(), salt=str(options.seed),
            url=environment.host or "", model=options.model, started=test.started,
            window_s=test.seconds, objective=preset(options.slo), notes=(NOTE,),
        ),
        rows, test.gathered.client(test.cpu_share, options.ceiling or None),
    )  # fmt: skip
    print(result.verdict)
    if options.result:
        save(Path(options.result), result)
    environment.process_exit_code = 0 if result.valid else 1
