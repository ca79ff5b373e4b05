"""A model process without a model: vLLM's wire on a socket, with knobs for time and faults.

It ships with the product because a site can try its gateway, keys, dashboards and load tests
with it before the GPUs arrive, and because a thousand tests need an engine that answers in a
millisecond and fails on demand. What it generates is `w0 w1 w2 …`, one token a word; a prompt's
tokens are its words. A prompt may carry directives, each a word of its own:

    fake:tokens=N    generate N tokens (still bounded by max_tokens)
    fake:die@N       exit with SIGKILL before token N        fake:hang@N   stop sending there
    fake:error@N     an error frame there                    fake:abort@N  finish with `abort`
    fake:drop@N      close the connection there              fake:status=N answer with status N
    fake:garbage@N   send what is no JSON there
    fake:think=N     N reasoning tokens first                fake:say=TEXT answer TEXT instead
    fake:prefill=S   S seconds of prompt, in many steps      fake:crunch=S S seconds in one step,
    fake:stall@N     from token N on, no step for anybody:                 computing all the while
                     health and metrics answer all the same
    fake:core@N      lose its core there: it refuses everything, and ends a second later
    fake:pace=S      S seconds between two tokens
    fake:call=NAME   call that tool, if it may be      fake:arguments=JSON with these arguments
                     (`A,B`: both at once)             fake:times=N   no more than N results of
    fake:echo        say the last message again                     tools since the user spoke
"""

from serve.engines.fake.answer import unstreamed
from serve.engines.fake.engine import FakeEngine
from serve.engines.fake.knobs import Knobs
from serve.engines.fake.script import script_of
from serve.engines.fake.wire import FakeProtocol

__all__ = ["FakeEngine", "FakeProtocol", "Knobs", "script_of", "unstreamed"]
