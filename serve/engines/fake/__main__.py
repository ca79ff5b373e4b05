"""`python -m serve.engines.fake`: one fake engine on a socket, until SIGTERM."""

import argparse
import asyncio
import signal
import sys

import uvloop

from serve.engines.become import STANDBY_FLAG, await_order, become
from serve.engines.fake.engine import FakeEngine
from serve.engines.fake.knobs import Knobs
from serve.engines.fake.wire import FakeProtocol
from serve.engines.mortality import die_with_parent


async def run(
    knobs: Knobs,
    adapters: dict[str, str],
    *,
    uds: str | None,
    port: int | None,
    start_delay_s: float,
) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    engine = FakeEngine(knobs)
    for name, path in adapters.items():
        engine.adapters.load({"lora_name": name, "lora_path": path})
    await asyncio.sleep(start_delay_s)
    if uds is not None:
        server = await loop.create_unix_server(lambda: FakeProtocol(engine), uds)
    else:
        server = await loop.create_server(lambda: FakeProtocol(engine), "127.0.0.1", port)
    await stop.wait()
    server.close()


def _parser() -> argparse.ArgumentParser:
    default = Knobs()
    parser = argparse.ArgumentParser(description="an engine without a model")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--uds")
    where.add_argument("--port", type=int)
    parser.add_argument("--model", default=default.model)
    parser.add_argument("--tokens", type=int, default=default.tokens)
    parser.add_argument("--ttft-ms", type=float, default=default.ttft_ms)
    parser.add_argument("--tpot-ms", type=float, default=default.tpot_ms)
    parser.add_argument("--context-tokens", type=int, default=default.context_tokens)
    parser.add_argument("--memory-mib", type=int, default=default.memory_mib)
    parser.add_argument("--order-ms", type=float, default=default.order_ms)
    parser.add_argument("--block-tokens", type=int, default=default.block_tokens)
    parser.add_argument("--cache-blocks", type=int, default=default.cache_blocks)
    parser.add_argument("--lora-rank-max", type=int, default=default.lora_rank_max)
    parser.add_argument("--lora-modules", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--step-ms", type=float, default=default.step_ms)
    parser.add_argument("--token-us", type=float, default=default.token_us)
    parser.add_argument("--step-tokens", type=int, default=default.step_tokens)
    parser.add_argument("--max-streams", type=int, default=default.max_streams)
    parser.add_argument("--cache-tokens", type=int, default=default.cache_tokens)
    parser.add_argument("--stall-after-s", type=float, default=default.stall_after_s)
    parser.add_argument("--start-delay-s", type=float, default=0.0)
    parser.add_argument("--outlive-parent", action="store_true", help="for use without a gateway")
    return parser


def main() -> None:
    if sys.argv[1:] == [STANDBY_FLAG]:
        die_with_parent()
        become(await_order())
    args = _parser().parse_args()
    if not args.outlive_parent:
        die_with_parent()
    knobs = Knobs(
        model=args.model,
        tokens=args.tokens,
        ttft_ms=args.ttft_ms,
        tpot_ms=args.tpot_ms,
        context_tokens=args.context_tokens,
        memory_mib=args.memory_mib,
        order_ms=args.order_ms,
        block_tokens=args.block_tokens,
        cache_blocks=args.cache_blocks,
        lora_rank_max=args.lora_rank_max,
        step_ms=args.step_ms,
        token_us=args.token_us,
        step_tokens=args.step_tokens,
        max_streams=args.max_streams,
        cache_tokens=args.cache_tokens,
        stall_after_s=args.stall_after_s,
    )
    adapters = dict(word.split("=", 1) for word in args.lora_modules)
    work = run(knobs, adapters, uds=args.uds, port=args.port, start_delay_s=args.start_delay_s)
    uvloop.run(work)


if __name__ == "__main__":
    main()
