"""Lines of the files of results."""

import json

from serve.batch.output import Tokens, answered, not_run, sort
from serve.batch.ports import Answer
from serve.state.batches import Result


def test_where_lines_go_and_what_they_used() -> None:
    chat = {"prompt_tokens": 3, "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1}}  # fmt: skip
    turn = {"input_tokens": 10, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 7}}  # fmt: skip
    embedding = {"prompt_tokens": 100, "total_tokens": 100}
    bodies = [{"usage": chat}, {"usage": turn}, {"usage": embedding}, {"usage": None}, {}]
    results = [
        Result(number, f"l{number}", False, answered(f"l{number}", Answer(200, "req", body)))
        for number, body in enumerate(bodies)
    ]
    failed = answered("bad", Answer(404, "req_x", {"error": {"code": "model_not_found"}}))
    results += [Result(8, "bad", True, failed), Result(9, "late", False, None)]
    tokens = Tokens()
    found = sort(results, "batch_expired", tokens)
    assert found.completed == [one.result for one in results[:5]]
    assert found.not_run == 1
    bad, late = (json.loads(one) for one in found.failed)
    assert bad["response"]["status_code"] == 404
    assert (late["custom_id"], late["response"]) == ("late", None)
    assert late["error"]["code"] == "batch_expired"
    assert tokens.shown == {
        "input_tokens": 113,
        "input_tokens_details": {"cached_tokens": 6},
        "output_tokens": 25,
        "output_tokens_details": {"reasoning_tokens": 8},
        "total_tokens": 138,
    }


def test_a_line_is_one_line() -> None:
    data = answered("a\nb", Answer(200, "req", {"text": "x\ny\u2028"}))
    assert data.count(b"\n") == 1 and data.endswith(b"\n")
    assert not_run("a", "batch_cancelled").endswith(b"\n")
