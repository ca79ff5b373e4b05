from datetime import date

from serve.settings.names import Entry, clashes, names_of

OLD, NEW = date(2026, 11, 1), date(2026, 11, 20)


def test_one_entry_answers_to_its_pin_its_name_and_its_aliases() -> None:
    assert names_of([Entry("a", OLD, ("b", "a", "b"))]) == [("a-2026-11-01", "a", "b")]
    assert names_of([Entry("a")]) == [("a",)]


def test_the_plain_name_means_the_newest_snapshot() -> None:
    assert names_of([Entry("a", NEW), Entry("a", OLD, ("b",))]) == [
        ("a-2026-11-20", "a"),
        ("a-2026-11-01", "b"),
    ]
    assert names_of([Entry("a", OLD), Entry("a", NEW)])[1] == ("a-2026-11-20", "a")


def test_an_entry_may_claim_the_plain_name() -> None:
    old, new = names_of([Entry("a", OLD, ("a",)), Entry("a", NEW)])
    assert old == ("a-2026-11-01", "a")
    assert new == ("a-2026-11-20",)
    assert list(clashes([Entry("a", OLD, ("a",)), Entry("a", NEW)])) == []


def test_a_name_that_two_entries_claim() -> None:
    both = [Entry("a", OLD, ("a",)), Entry("a", NEW, ("a",))]
    assert list(clashes(both)) == [(1, 0, "a", "name")]


def test_a_snapshot_twice() -> None:
    assert list(clashes([Entry("a", OLD), Entry("a", OLD)])) == [(1, 0, "a-2026-11-01", "snapshot")]


def test_an_undated_entry_beside_a_dated_one() -> None:
    # Its pin is the plain name itself, which the dated one has.
    assert list(clashes([Entry("a", OLD), Entry("a")])) == [(1, 0, "a", "snapshot")]


def test_names_of_others() -> None:
    first = Entry("a", OLD, ("x",))
    assert list(clashes([first, Entry("b", None, ("x",))])) == [(1, 0, "x", "aliases")]
    assert list(clashes([first, Entry("x")])) == [(1, 0, "x", "snapshot")]
    assert list(clashes([first, Entry("b", NEW, ("a",))])) == [(1, 0, "a", "aliases")]
    assert list(clashes([first, Entry("b")])) == []
