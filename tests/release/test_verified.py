"""The memory of hashes that were taken."""

from __future__ import annotations

from abc_dask.disk.files import Fingerprint
from abc_dask.release.release import Memory

HASH = "0" * 32
SAME, SHORT = Fingerprint(10, 1), Fingerprint(9, 1)


def test_memory_survives_junk_and_read_only_places(tmp_path):
    memory = Memory(tmp_path)
    memory.put("a", SAME, HASH)
    with (tmp_path / ".abc_dask" / "verified.jsonl").open("ab") as file:
        file.write(b'{"path": "a"}\nnonsense\n\xff\n[1]\n{"path": "b", "size": "x"')
    Memory(tmp_path).put("c", SHORT, HASH)
    again = Memory(tmp_path)
    assert (again.get("a", SAME), again.get("c", SHORT)) == (HASH, HASH)
    assert again.get("a", SHORT) is None
    (tmp_path / "file").touch()
    elsewhere = Memory(tmp_path / "file" / "base")
    elsewhere.put("a", SAME, HASH)
    assert Memory(tmp_path / "file" / "base").get("a", SAME) == HASH
