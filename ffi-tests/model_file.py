"""Writes a small residual net as a qcore model file of version 2, reads it back and computes it.

`model_file.py FOLDER` writes net.qcore, net.images (u8) and net.expected (f32) there. Made from the page at the head of
src/model/file.rs alone, with numpy and safetensors."""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def checksum(text, tensors):
    """CRC-32 over the description, then by name each tensor's name, dimensions as u64 and data."""
    parts = (name.encode() + np.array(tensor.shape, "<u8").tobytes() + tensor.tobytes()
             for name, tensor in sorted(tensors.items()))
    return f"{zlib.crc32(text.encode() + b''.join(parts)):08x}"


def write(path, description, tensors):
    text = json.dumps(description)
    head = {"kind": "model", "version": 2, "description": text, "checksum": checksum(text, tensors)}
    save_file(tensors, path, metadata={"qcore": json.dumps(head)})


def read(path):
    with safe_open(path, framework="numpy") as file:
        head = json.loads(file.metadata()["qcore"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    assert (head["kind"], head["version"], head["checksum"]) == ("model", 2, checksum(head["description"], tensors))
    return json.loads(head["description"]), tensors


def pack(signs):
    """Bipolar weights [N, K] of -1 and +1 as words [N, 1, ceil(K / 32)]: bit k % 32 of word k / 32 is 1 for +1."""
    bits = np.pad(signs > 0, ((0, 0), (0, -signs.shape[1] % 32)))
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, None]


def rows_of(x, window):
    """The windows of x [H, W, C], zeros outside, as [OH, OW, KH KW C]."""
    top, left, bottom, right = window["padding"]
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    rows = np.lib.stride_tricks.sliding_window_view(x, window["kernel"], axis=(0, 1))
    rows = rows[:: window["stride"][0], :: window["stride"][1]].transpose(0, 1, 3, 4, 2)
    return rows.reshape(*rows.shape[:2], -1)


def run(description, tensors, image):
    """The outputs of one image [H, W, C] of integers, for the operations that this net has."""
    values = [image]
    for i, node in enumerate(description["nodes"][1:], 1):
        (op, text), = node["op"].items()
        x, *residual = [values[v] for v in node["reads"]]
        rows = rows_of(x, text["window"]) if "window" in text else x.reshape(1, 1, -1)
        if op == "max_pool":
            values.append(rows.reshape(*rows.shape[:2], -1, x.shape[2]).max(axis=2))
            continue
        weights, scale, bias = (tensors[f"nodes.{i}.{part}"] for part in ("weights", "scale", "bias"))
        bits = np.unpackbits(weights[:, 0].view(np.uint8), axis=1, count=rows.shape[2], bitorder="little")
        y = (rows @ (2 * bits.T.astype(int) - 1)).astype(np.float32) * scale + bias
        if text["finish"].get("residual") == "before":
            y = y + residual[0].astype(np.float32) * np.float32(text["residual_scale"])
        if text["finish"]["leaves"] != "f32":
            relu = text["finish"]["leaves"]["planes"]["relu"]  # rounding "ceil": levels below y
            y = (y[..., None] > np.arange(2 ** relu["bits"] - 1, dtype=np.float32) * np.float32(relu["alpha"])).sum(-1)
        values.append(y)
    return [values[v] for v in description["outputs"]]


def net(random):
    """8 x 6 images of 3 channels of 8 bits, a stem, a residual block of 2-bit codes, a pool, 5 classes."""
    window = {"kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1]}
    codes = {"planes": {"relu": {"bits": 2, "alpha": 0.5, "rounding": "ceil"}}}
    conv = {"outputs": 20, "weights": "bipolar", "window": window, "groups": 1, "pad": "zero"}
    block = {**conv, "finish": {"leaves": codes, "residual": "before"}, "residual_scale": 0.5}
    halving = {**window, "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0]}
    nodes = [{"op": {"image": {"height": 8, "width": 6, "channels": 3, "elements": "u8"}}, "reads": []},
             {"op": {"conv": {**conv, "finish": {"leaves": codes}}}, "reads": [0], "name": "stem"},
             {"op": {"conv": block}, "reads": [1, 1], "name": "block"},
             {"op": {"max_pool": {"window": halving}}, "reads": [2]},
             {"op": {"linear": {"outputs": 5, "weights": "bipolar", "finish": {"leaves": "f32"}}}, "reads": [3]}]
    tensors = {}
    for i, n, k, size in [(1, 20, 27, 1500), (2, 20, 180, 20), (4, 5, 4 * 3 * 20, 25)]:
        tensors[f"nodes.{i}.weights"] = pack(random.choice([-1, 1], (n, k)))
        tensors[f"nodes.{i}.scale"] = (random.normal(1, 0.2, n) / size).astype(np.float32)
        tensors[f"nodes.{i}.bias"] = random.normal(0.2, 0.4, n).astype(np.float32)
    return {"nodes": nodes, "outputs": [4]}, tensors


if __name__ == "__main__":
    random, path = np.random.default_rng(1), Path(sys.argv[1]) / "net.qcore"
    write(path, *net(random))
    images = random.integers(0, 256, (6, 8, 6, 3), np.uint8)
    logits = [run(*read(path), image.astype(int))[0] for image in images]
    path.with_suffix(".images").write_bytes(images.tobytes())
    path.with_suffix(".expected").write_bytes(np.array(logits, "<f4").tobytes())
