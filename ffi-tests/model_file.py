"""Writes a small residual net as a qcore model file of version 2, reads it back and computes it.

    model_file.py FOLDER      writes net.qcore, net.images (u8) and net.expected (f32) there

Made from the page at the head of src/model/file.rs and that of src/model/container.rs alone, with numpy and safetensors.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def checksum(description, tensors):
    """CRC-32 over the description, then by name each tensor's name, dimensions as u64 and data."""
    crc = zlib.crc32(description.encode())
    for name in sorted(tensors, key=str.encode):
        tensor = np.ascontiguousarray(tensors[name])
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(np.array(tensor.shape, "<u8").tobytes(), crc)
        crc = zlib.crc32(tensor.tobytes(), crc)
    return f"{crc:08x}"


def write(path, description, tensors):
    text = json.dumps(description)
    head = {"kind": "model", "version": 2, "description": text, "checksum": checksum(text, tensors)}
    save_file(tensors, path, metadata={"qcore": json.dumps(head)})


def read(path):
    with safe_open(path, framework="numpy") as file:
        head = json.loads(file.metadata()["qcore"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    assert (head["kind"], head["version"]) == ("model", 2)
    assert head["checksum"] == checksum(head["description"], tensors), "damaged"
    return json.loads(head["description"]), tensors


def pack(signs):
    """Bipolar weights [N, K] of -1 and +1 as words [N, 1, ceil(K / 32)]: bit k % 32 of word k / 32 is 1 for +1."""
    n, k = signs.shape
    bits = np.zeros((n, 1, -(-k // 32), 32), np.uint32)
    bits.reshape(n, -1)[:, :k] = signs > 0
    return (bits << np.arange(32, dtype=np.uint32)).sum(-1, dtype=np.uint32)


def unpack(words, k):
    bits = (words[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    return 2 * bits.reshape(len(words), -1)[:, :k].astype(np.int64) - 1


def patches(x, kernel, padding):
    """Rows [pixels, KH KW C] of the windows of x [H, W, C], stride 1, zeros outside."""
    top, left, bottom, right = padding
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(0, 1))
    return windows.transpose(0, 1, 3, 4, 2).reshape(-1, np.prod(kernel) * x.shape[2]), windows.shape[:2]


def levels(quantizer, y):
    """Integers of floats: the number of thresholds c alpha, in f32, that y is above."""
    q = quantizer["relu"]
    steps = np.arange(2 ** q["bits"] - 1, dtype=np.float32) * np.float32(q["alpha"])
    return (y[..., None] > steps).sum(-1)


def finish(text, part, sums, residual):
    y = sums.astype(np.float32) * part("scale") + part("bias")
    if text.get("residual") == "before":
        y = y + residual
    if text.get("function") == "relu":
        y = np.maximum(y, np.float32(0))
    return y if text["leaves"] == "f32" else levels(text["leaves"]["planes"], y)


def run(description, tensors, image):
    """The outputs of one image [H, W, C] of integers, for the operations that this net has."""
    values = []
    for i, node in enumerate(description["nodes"]):
        op, reads = node["op"], [values[v] for v in node["reads"]]
        part = lambda name: tensors[f"nodes.{i}.{name}"]
        if "image" in op:
            values.append(image)
        elif op == "flatten":
            values.append(reads[0].reshape(1, 1, -1))
        elif "max_pool" in op:
            (h, w), c = op["max_pool"]["window"]["kernel"], reads[0].shape[2]
            rows = reads[0].reshape(reads[0].shape[0] // h, h, reads[0].shape[1] // w, w, c)
            values.append(rows.max(axis=(1, 3)))
        else:
            text = op["conv" if "conv" in op else "linear"]
            residual = None
            if len(reads) > 1:
                residual = reads[1].astype(np.float32) * np.float32(text["residual_scale"])
            if "conv" in op:
                window = text["window"]
                rows, (h, w) = patches(reads[0], window["kernel"], window["padding"])
            else:
                rows, h, w = reads[0].reshape(1, -1), 1, 1
            sums = rows @ unpack(part("weights"), rows.shape[1]).T
            values.append(finish(text["finish"], part, sums.reshape(h, w, -1), residual))
    return [values[v] for v in description["outputs"]]


def net(random):
    """8 x 6 images of 3 channels of 8 bits, a stem, a residual block of 2-bit codes, a pool, 5 classes."""
    window = {"kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1]}
    codes = {"planes": {"relu": {"bits": 2, "alpha": 0.5, "rounding": "ceil"}}}
    tensors = {}

    def layer(i, n, k, size):
        tensors[f"nodes.{i}.weights"] = pack(random.choice([-1, 1], (n, k)))
        tensors[f"nodes.{i}.scale"] = (random.normal(1, 0.2, n) / size).astype(np.float32)
        tensors[f"nodes.{i}.bias"] = random.normal(0.2, 0.4, n).astype(np.float32)

    def conv(n, function, **more):
        return {"conv": {"outputs": n, "weights": "bipolar", "window": window, "groups": 1, "pad": "zero",
                         "finish": {"leaves": codes, "function": "relu", **function}, **more}}

    layer(1, 20, 27, 1500)
    layer(2, 20, 180, 20)
    layer(4, 5, 4 * 3 * 20, 25)
    image = {"image": {"height": 8, "width": 6, "channels": 3, "elements": "u8"}}
    pool = {"max_pool": {"window": {**window, "kernel": [2, 2], "stride": [2, 2], "padding": [0] * 4}}}
    linear = {"linear": {"outputs": 5, "weights": "bipolar", "finish": {"leaves": "f32"}}}
    nodes = [{"op": image, "reads": []}, {"op": conv(20, {}), "reads": [0], "name": "stem"},
             {"op": conv(20, {"residual": "before"}, residual_scale=0.5), "reads": [1, 1], "name": "block"},
             {"op": pool, "reads": [2]}, {"op": linear, "reads": [3], "name": "classes"}]
    return {"nodes": nodes, "outputs": [4]}, tensors


def main(folder):
    random = np.random.default_rng(1)
    path = Path(folder) / "net.qcore"
    write(path, *net(random))
    description, tensors = read(path)
    images = random.integers(0, 256, (6, 8, 6, 3), np.uint8)
    logits = [run(description, tensors, image.astype(np.int64))[0] for image in images]
    path.with_suffix(".images").write_bytes(images.tobytes())
    path.with_suffix(".expected").write_bytes(np.array(logits, "<f4").tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
