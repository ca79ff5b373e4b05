import re

from serve.core.ids import new_id, new_request_id


def test_an_id_says_what_it_names_and_is_never_the_same() -> None:
    ids = {new_id("msg") for _ in range(1000)}
    assert len(ids) == 1000
    assert {(one[:4], len(one)) for one in ids} == {("msg_", 52)}


def test_a_request_has_a_name_of_its_own() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch("req_[0-9a-f]{32}", one) for one in ids)
