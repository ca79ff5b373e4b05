from serve.core.ids import new_id


def test_an_id_says_what_it_names_and_is_never_the_same() -> None:
    ids = {new_id("msg") for _ in range(1000)}
    assert len(ids) == 1000
    assert {(one[:4], len(one)) for one in ids} == {("msg_", 52)}
