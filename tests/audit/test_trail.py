"""The writer: what it leaves behind, however it ends, and what it does where it cannot write."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from serve.audit.checkpoint import checkpoint_of
from serve.audit.files import CHECKPOINTS, notes_in, segments_in
from serve.audit.search import Wanted, search
from serve.audit.trail import CLAIM_BYTES, RECORD_MAX_BYTES, AuditTrail
from serve.audit.verify import verify
from serve.core.clock import SystemClock
from serve.core.errors import SetupError, StorageUnavailable
from serve.settings.audit import Audit
from tests.audit.rig import FakeClock, trail_in, write, written
from tests.small_disk import ROOT, found_by


def kinds(folder: Path) -> list[str]:
    return [one["kind"] for one in search(folder, Wanted())]


async def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    await written(tmp_path, (3, 4))
    assert kinds(tmp_path) == ["log.segment", *["request"] * 3, "log.segment", *["request"] * 4]
    assert [one["seq"] for one in search(tmp_path, Wanted())] == list(range(9))
    assert verify(tmp_path).findings == []
    assert len({one["log"] for one in search(tmp_path, Wanted(kind="log"))}) == 1


async def test_the_key_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    await written(tmp_path, (1,))
    key = tmp_path / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes(), (tmp_path / "key.pub").read_text()
    await written(tmp_path, (1,))
    assert (key.read_bytes(), (tmp_path / "key.pub").read_text()) == before


async def test_a_key_may_lie_elsewhere(tmp_path: Path) -> None:
    await written(tmp_path / "one", (1,))
    key = tmp_path / "one" / "key.pem"
    await written(tmp_path / "two", (1,), key_file=key)
    assert not (tmp_path / "two" / "key.pem").exists()
    keys = [(tmp_path / name / "key.pub").read_text().split("+")[2] for name in ("one", "two")]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("spoil", ["missing", "readable", "words", "rsa"])
async def test_a_key_that_is_none_stops_the_start(spoil: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    if spoil == "rsa":
        private = rsa.generate_private_key(65537, 2048)
        form = serialization.PrivateFormat.PKCS8
        pem = serialization.Encoding.PEM
        key.write_bytes(private.private_bytes(pem, form, serialization.NoEncryption()))
    elif spoil != "missing":
        key.write_text("words")
    if spoil != "missing":
        key.chmod(0o644 if spoil == "readable" else 0o600)
    says = {
        "missing": "No such file",
        "readable": "chmod 600",
        "words": "openssl",
        "rsa": "Ed25519",
    }
    with pytest.raises(SetupError, match=says[spoil]):
        await written(tmp_path / "audit", (1,), key_file=key)
    assert not (tmp_path / "audit" / "0000000000000000.jsonl").exists()


async def test_two_servers_do_not_write_one_log(tmp_path: Path) -> None:
    async with trail_in(tmp_path):
        with pytest.raises(SetupError, match="another server uses it"):
            await written(tmp_path, (1,))


def test_a_killed_server_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    told = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.audit.killed", str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last == 300:
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        told += last + 1
        assert verify(tmp_path).findings == []
    found = len([one for one in kinds(tmp_path) if one == "request"])
    # One may have been written in each life whose number was not printed.
    assert told <= found <= told + 5
    write(tmp_path, (1,))
    assert verify(tmp_path).findings == []


def test_an_unfinished_record_is_told_from_tampering_and_repaired_in_sight(tmp_path: Path) -> None:
    (segment,) = write(tmp_path, (3,))
    whole = segment.read_bytes()
    segment.write_bytes(whole + b'{"seq":4,"time":17' + bytes(100_000))
    verdict = verify(tmp_path)
    assert verdict.findings == []
    assert [one for one in verdict.notes if "unfinished record of 18 bytes" in one]
    segment.write_bytes(whole + b'{"seq":4,"time":17')
    write(tmp_path, (1,))
    assert segment.read_bytes() == whole
    (repaired,) = search(tmp_path, Wanted(kind="log.repaired"))
    assert (repaired["segment"], repaired["cut_bytes"]) == (segment.name, 18)
    verdict = verify(tmp_path)
    assert verdict.findings == []
    assert [one for one in verdict.notes if "log.repaired" in one]


def test_a_start_that_came_to_nothing_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    write(tmp_path, (3,))
    (tmp_path / "0000000000000004.jsonl").write_bytes(bytes(4096))
    (tmp_path / "next.fresh").write_bytes(bytes(4096))
    assert verify(tmp_path).findings == []
    write(tmp_path, (2,))
    assert verify(tmp_path).findings == []
    assert len(kinds(tmp_path)) == 7


def test_a_server_does_not_go_on_with_what_was_tampered_with(tmp_path: Path) -> None:
    (segment,) = write(tmp_path, (5,))
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"req_0_2", b"req_0_9"))
    with pytest.raises(SetupError, match=r"line 4 .* audit verify"):
        write(tmp_path, (1,))
    segment.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    with pytest.raises(SetupError, match="is a checkpoint after 6"):
        write(tmp_path, (1,))
    segment.write_bytes(whole)
    assert len(write(tmp_path, (1,))) == 2


async def test_segments_end_by_size_and_by_age_and_each_end_is_signed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with trail_in(tmp_path, clock, segment_mib=1, segment_hours=1e-6) as trail:
        for number in range(3000):
            trail.record("request", {"request_id": f"req_{number}", "pad": "x" * 500})
            if number % 100 == 0:
                await trail.durable()
        before = len(segments_in(tmp_path))
        clock.now_s += 1
        await _until(lambda: len(segments_in(tmp_path)) == before + 1, trail)
    assert before >= 2
    segments = segments_in(tmp_path)
    assert {one.first for one in segments[1:]} <= {size for _, size in notes_in(tmp_path)}
    verdict = verify(tmp_path)
    assert (verdict.findings, verdict.covered) == ([], verdict.size)
    assert [one for one in kinds(tmp_path) if one == "log.lost"] == []


async def test_checkpoints_between_the_ends_of_segments_do_not_pile_up(tmp_path: Path) -> None:
    exported = tmp_path / "elsewhere"
    exported.mkdir()
    async with trail_in(tmp_path / "audit", export_dir=exported) as trail:
        for number in range(5):
            trail.record("request", {"request_id": f"req_{number}"})
            await trail.checkpoints.sign()
        signed = trail.seq
    assert [size for _, size in notes_in(tmp_path / "audit")] == [signed]
    sizes = {checkpoint_of(path.read_bytes())[0].size for path in exported.glob("*.note")}
    assert sizes >= {2, 3, 4, 5, 6}
    assert verify(tmp_path / "audit", [exported]).findings == []


async def test_an_export_that_fails_is_told_and_made_up_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exported = tmp_path / "share"
    async with trail_in(tmp_path / "audit", export_dir=exported) as trail:
        for number in range(3):
            trail.record("request", {"request_id": f"req_{number}"})
            await trail.checkpoints.sign()
            assert trail.state()[2:] == (True, trail.seq)
        assert [one.levelname for one in caplog.records if "not kept" in one.message] == ["ERROR"]
        exported.mkdir()
        await trail.checkpoints.sign()
        assert trail.state()[2:] == (False, 0)
    assert verify(tmp_path / "audit", [exported]).covered == 4
    assert not list(exported.glob(".*"))


async def test_old_segments_go_behind_a_checkpoint_and_the_rest_is_verified_from_there(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    clock.now_s -= 400 * 86_400
    async with trail_in(tmp_path, clock, keep_days=None) as trail:
        trail.record("request", {"request_id": "req_old"})
    async with trail_in(tmp_path, clock, keep_days=None) as trail:
        trail.record("request", {"request_id": "req_old_too"})
    await written(tmp_path, (3,), keep_days=None)
    assert len(segments_in(tmp_path)) == 3
    share = tmp_path / "share"
    async with trail_in(tmp_path, keep_days=365, export_dir=share) as trail:
        await trail.checkpoints.sign()
        await trail.checkpoints.trim()
        # What is not exported is not removed.
        assert len(segments_in(tmp_path)) == 4
        share.mkdir()
        await trail.checkpoints.sign()
        await trail.checkpoints.trim()
    assert segments_in(tmp_path)[0].first == 2
    (trimmed,) = search(tmp_path, Wanted(kind="log.trimmed"))
    assert trimmed["first"] == 2
    verdict = verify(tmp_path, [share])
    assert (verdict.findings, verdict.first) == ([], 2)
    await written(tmp_path, (1,))
    assert verify(tmp_path).findings == []
    segments_in(tmp_path)[0].path.unlink()
    assert [one for one in verify(tmp_path).findings if "no record says" in one]
    (tmp_path / CHECKPOINTS / "0000000000000004.note").unlink()
    assert [one for one in verify(tmp_path).findings if "no checkpoint holds on" in one]


async def test_claims_are_kept_and_bounded(tmp_path: Path) -> None:
    async with trail_in(tmp_path, segment_mib=1) as trail:
        claims = 0
        with pytest.raises(StorageUnavailable):
            while True:
                trail.claim()
                claims += 1
        assert claims == (2**20 - 2 * RECORD_MAX_BYTES) // CLAIM_BYTES
        trail.unclaim()
        trail.claim()
        for _ in range(claims):
            trail.record("request", {"pad": "x" * (CLAIM_BYTES - 300)}, claimed=True)
        await trail.durable()
        assert len([one for one in kinds(tmp_path) if one == "request"]) == claims


async def test_what_is_too_long_is_told_of_by_its_digest(tmp_path: Path) -> None:
    async with trail_in(tmp_path, segment_mib=1) as trail:
        trail.record("admin.order", {"body": "x" * RECORD_MAX_BYTES})
    (one,) = search(tmp_path, Wanted(kind="admin"))
    assert one.keys() >= {"bytes", "sha256"}
    assert "body" not in one


def test_a_disk_that_fills_up_stops_admission_and_loses_nothing(tmp_path: Path) -> None:
    found = found_by("tests.audit.full", tmp_path)
    assert 200 < found["refused_at"] < 20_000
    assert found["failing"]
    assert found["receipts"] == found["written"] + 10
    assert (found["waited"], found["lost"], found["findings"]) == (1, 0, [])


async def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file")
    trail = AuditTrail(tmp_path / "audit", Audit(), SystemClock())
    with pytest.raises(SetupError, match="audit log cannot be written"):
        await trail.open()


async def _until(true: Callable[[], bool], trail: AuditTrail) -> None:
    async with asyncio.timeout(10):
        while not true():
            await trail.durable()
            await asyncio.sleep(0.02)
