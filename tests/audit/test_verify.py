"""Whatever is done to a log is found, or told to be beyond finding."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.audit.files import CHECKPOINTS, segments_in
from serve.audit.key import public_key
from serve.audit.verify import verify
from tests.audit.rig import trail_in, write

SEED = 20261124
MUTATIONS = 1000

Mutation = Callable[[random.Random, list[Path]], str]


def flip_a_bit(rng: random.Random, segments: list[Path]) -> str:
    path = rng.choice(segments)
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    bit = 1 << rng.randrange(8)
    data[at] ^= bit
    path.write_bytes(data)
    return f"bit {bit} of byte {at} of {path.name}"


def overwrite_bytes(rng: random.Random, segments: list[Path]) -> str:
    path = rng.choice(segments)
    data = bytearray(path.read_bytes())
    at, length = rng.randrange(len(data) - 64), rng.randint(1, 64)
    new = rng.choice((rng.randbytes(length), bytes(length)))
    if data[at : at + length] == new:
        new = b"\xff" * length
    data[at : at + length] = new
    path.write_bytes(data)
    return f"{length} bytes at {at} of {path.name}"


def lines_changed(rng: random.Random, segments: list[Path]) -> str:
    """Delete, repeat, swap, or insert records."""
    path = rng.choice(segments)
    lines = path.read_bytes().splitlines(keepends=True)
    before = list(lines)
    while lines == before:
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                del lines[at : at + rng.randint(1, 5)]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                lines.append(lines.pop(at))
    path.write_bytes(b"".join(lines))
    return f"the lines of {path.name}"


def truncate(rng: random.Random, segments: list[Path]) -> str:
    path = rng.choice(segments)
    data = path.read_bytes()
    left = rng.randrange(len(data))
    if rng.random() < 0.5:
        left = data.rfind(b"\n", 0, left) + 1  # between records
    path.write_bytes(data[:left])
    if rng.random() < 0.3:
        for later in segments[segments.index(path) + 1 :]:
            later.unlink()
    return f"{path.name} after byte {left}"


def segments_moved(rng: random.Random, segments: list[Path]) -> str:
    path, other = rng.sample(segments, 2)
    match rng.randrange(3):
        case 0:
            path.unlink()
        case 1:
            shutil.copy(path, other)
        case _:
            first, second = path.read_bytes(), other.read_bytes()
            path.write_bytes(second)
            other.write_bytes(first)
    return f"{path.name} and {other.name}"


KINDS: tuple[Mutation, ...] = (
    flip_a_bit, overwrite_bytes, lines_changed, truncate, segments_moved,
)  # fmt: skip


def test_every_one_of_a_thousand_mutations_is_found(tmp_path: Path) -> None:
    folder, exported = tmp_path / "audit", tmp_path / "elsewhere"
    exported.mkdir()
    segments = write(folder, (40, 30, 50), export_dir=exported)
    key = public_key((folder / "key.pub").read_text())
    assert verify(folder, [exported], [key]).findings == []
    # Whoever can change the log can remove the checkpoints beside it too.
    shutil.rmtree(folder / CHECKPOINTS)
    whole = {path: path.read_bytes() for path in segments}
    rng = random.Random(SEED)
    missed = []
    for number in range(MUTATIONS):
        done = KINDS[number % len(KINDS)](rng, segments)
        if verify(folder, [exported], [key]).good:
            missed.append(f"{number}: {done}")
        for path, data in whole.items():
            path.write_bytes(data)
    assert missed == []
    assert verify(folder, [exported], [key]).findings == []


def test_a_history_that_is_rewritten_whole_is_found(tmp_path: Path) -> None:
    """With new chains, by who has the private key: the exported checkpoints contradict it."""
    folder, exported = tmp_path / "audit", tmp_path / "elsewhere"
    exported.mkdir()
    write(folder, (20,), export_dir=exported)
    kept = (folder / "key.pub").read_text()
    name = public_key(kept).name
    pem = (folder / "key.pem").read_bytes()
    forged = tmp_path / "forged"
    forged.mkdir()
    (forged / "key.pem").write_bytes(pem)
    (forged / "key.pem").chmod(0o600)
    from serve.audit import trail

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trail, "new_log_name", lambda: name)
        write(forged, (20,))
    assert (forged / "key.pub").read_text() == kept
    found = verify(forged, [exported], [public_key(kept)]).findings
    assert any("contradict each other" in one or "checkpoint was signed" in one for one in found)


async def test_what_lies_behind_the_newest_checkpoint_can_be_removed_and_that_is_told(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "audit"
    async with trail_in(folder, checkpoint_every_s=3600) as trail:
        for number in range(10):
            trail.record("request", {"request_id": f"req_{number}"})
        await trail.checkpoints.sign()
        signed = trail.seq
        for number in range(10, 20):
            trail.record("request", {"request_id": f"req_{number}"})
        await trail.durable()
        (segment,) = [one.path for one in segments_in(folder)]
        data = segment.read_bytes().rstrip(b"\0")
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
    lines = data.splitlines(keepends=True)
    behind = copy / segment.name
    behind.write_bytes(b"".join(lines[: signed + 3]))
    verdict = verify(copy)
    assert (verdict.findings, verdict.size, verdict.covered) == ([], signed + 3, signed)
    behind.write_bytes(b"".join(lines[: signed - 1]))
    assert [one for one in verify(copy).findings if "was cut off" in one]


def test_checkpoints_of_others_do_not_count(tmp_path: Path) -> None:
    folder, exported = tmp_path / "audit", tmp_path / "elsewhere"
    exported.mkdir()
    write(folder, (5,), export_dir=exported)
    write(tmp_path / "other", (5,))
    key = public_key((tmp_path / "other" / "key.pub").read_text())
    notes = [*exported.glob("*.note"), *(folder / CHECKPOINTS).glob("*.note")]
    verdict = verify(folder, [exported], [key])
    assert (verdict.checkpoints, len(verdict.notes)) == (0, len(notes))
    renamed = public_key(str(type(key)(public_key((folder / "key.pub").read_text()).name, key.raw)))
    verdict = verify(folder, [exported], [renamed])
    assert all("not signed by a key that is trusted" in one for one in verdict.findings)
    assert len(verdict.findings) == len(notes)


@pytest.mark.parametrize("spoilt", [b"", b"\n\n", b"a\n1\nAA==\n\n", "\u2014 x y\n".encode() * 900])
def test_what_is_no_checkpoint_is_found(spoilt: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    write(folder, (5,))
    (folder / CHECKPOINTS / "0000000000000003.note").write_bytes(spoilt)
    assert [one for one in verify(folder).findings if "is no checkpoint" in one]


def test_no_log_is_no_whole_log(tmp_path: Path) -> None:
    assert verify(tmp_path).findings == ["there is no log"]
