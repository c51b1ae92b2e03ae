#!/usr/bin/env python3
"""An independent reader of the outbox format, written from its description (docs/outbox.md), for tests.

Usage: outbox_reader.py DIR. Prints a line for every record of every lane, also such as lie only in the
ring: LANE QUEUE SEQUENCE TIME KIND PAYLOAD (hex); the starts are the queue "starts".
"""
import os
import struct
import sys

KINDS = {2: "record", 3: "lost", 4: "begin", 5: "end", 6: "transaction"}
MAGIC = b"\xf5\x9c\xc1\xfe"
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def file_header(data):
    """Salt and first sequence, from the first of the two copies that holds."""
    for copy in (data[:64], data[64:128]):
        if len(copy) == 64 and copy[:8] == b"FACTLINE" and crc32c(copy[:60]) == u32(copy, 60):
            version, _, _, salt, first = struct.unpack_from("<HHI8sQ", copy, 8)
            if version != 1:
                sys.exit(f"format {version} is not known")
            return salt, first
    return None


def items(bundle):
    """Queue, kind, sequence, time, tag and payload of each item; None when a sum does not hold."""
    count, = struct.unpack_from("<Q", bundle, len(bundle) - 8)
    table, at, found = len(bundle) - 8 - 32 * count, 0, []
    if table < 0:
        return None
    for i in range(count):
        entry = struct.unpack_from("<QQIIHBBI", bundle, table + 32 * i)
        sequence, time, size, tag, queue, kind, _, crc = entry
        payload = bundle[at:at + size]
        if crc32c(payload) != crc:
            return None
        found.append((queue, kind, sequence, time, tag, payload))
        at += size
    return (found, crc32c(bundle[table:])) if at == table else None


def frames(data, at):
    """Kind, sequence, time and payload of every good frame from `at` on."""
    header = file_header(data)
    while header and (at := data.find(MAGIC, at)) >= 0 and at + 36 <= len(data):
        _, size, sequence, time, kind, _, _, check, total = struct.unpack_from("<IIQQBBHII", data, at)
        if crc32c(header[0] + struct.pack("<Q", at) + data[at + 4:at + 28]) != check:
            at += 1
            continue
        payload = data[at + 36:at + 36 + size]
        bundle = items(payload) if kind == 6 and len(payload) == size else None
        part = crc32c(payload) if kind != 6 else bundle and bundle[1]
        if part is not None and part ^ check == total:
            yield kind, sequence, time, bundle[0] if bundle else payload
        at += 36 + size


def read(*path):
    try:
        with open(os.path.join(*path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def lane(path):
    """Queue, sequence, time, kind and payload of all that the lane has, in that order, each once."""
    names = [p for kind, _, _, p in frames(read(path, "names"), 128) if kind == 7]
    names = names[0].decode().splitlines() if names else []
    found = {}
    for queue in names + ["starts"]:
        folder = os.path.join(path, queue)
        # A lane that was just made may lack some.
        listed = os.listdir(folder) if os.path.isdir(folder) else []
        files = sorted(name for name in listed if len(name) == 24 and name.endswith(".seg"))
        segments = [read(folder, name) for name in files]
        firsts = [header[1] if (header := file_header(data)) else None for data in segments]
        for i, data in enumerate(segments):
            # What a later segment has as well counts there; but starts are repeated by checkpoints.
            limit = min((f for f in firsts[i + 1:] if f is not None and queue != "starts"), default=1 << 64)
            for kind, sequence, time, payload in frames(data, 128):
                if kind in KINDS and kind != 6 and sequence < limit:
                    found.setdefault((queue, sequence), (time, kind, payload))
    for _, _, _, bundle in frames(read(path, "ring"), 4096):
        for queue, kind, sequence, time, _, payload in bundle:
            if kind in KINDS:
                name = names[queue] if queue < len(names) else "starts"
                found.setdefault((name, sequence), (time, kind, payload))
    return sorted((queue, sequence, *rest) for (queue, sequence), rest in found.items())


if __name__ == "__main__":
    lanes = os.path.join(sys.argv[1], "lanes")
    # With a dot: somebody died while making it.
    for name in sorted(name for name in os.listdir(lanes) if not name.startswith(".")):
        for queue, sequence, time, kind, payload in lane(os.path.join(lanes, name)):
            print(name, queue, sequence, time, KINDS[kind], payload.hex() or "-")
