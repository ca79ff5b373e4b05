from serve.core.grant import FAMILIES, Grant


def test_one_that_says_nothing_allows_everything_but_the_administration() -> None:
    grant = Grant()
    assert all(grant.permits(one) for one in FAMILIES)
    assert grant.covers(["anything"])
    assert not grant.admin


def test_models_are_names_or_patterns() -> None:
    grant = Grant(models=("small", "llama-*"))
    assert grant.covers(["small"])
    assert grant.covers(["llama-8b"])
    assert grant.covers(["snapshot", "small"]), "any of a model's names will do"
    for others in (["smaller"], ["a-llama-8b"], ["small:law"], ["Small"], ["small\n"], []):
        assert not grant.covers(others)


def test_a_list_of_none_allows_none() -> None:
    grant = Grant(models=(), endpoints=frozenset())
    assert not grant.covers(["a", ""])
    assert not any(grant.permits(one) for one in FAMILIES)
