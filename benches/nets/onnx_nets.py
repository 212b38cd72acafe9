"""The nets of the bench `nets` in f32 on onnxruntime's CPU provider: random weights, batch norm folded into the
convolutions, as an export for inference has it.

    onnx_nets.py [--nets A,B] [--threads 1,2] [--batch 1,32] [--seconds S] [--save FOLDER]

Prints one JSON object: {"version": "...", "results": [{"net", "threads", "batch", "seconds", "runs"}]}; seconds are
those of one run of the whole batch, the median of all runs.
"""

import argparse
import json
import os
import statistics
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and random weights; every call gives the name of its output."""

    def __init__(self, size):
        self.nodes, self.constants, self.size = [], [], size
        self.random = np.random.default_rng(1)
        # Channels of every output.
        self.channels = {"image": 3}

    def node(self, op, inputs, channels, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.channels[name] = channels
        return name

    def weights(self, *shape):
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = self.random.standard_normal(shape).astype(np.float32) / np.float32(fan_in**0.5)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x, out, kernel=3, stride=1):
        pad = kernel // 2
        inputs = [x, self.weights(out, self.channels[x], kernel, kernel), self.weights(out)]
        window = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        return self.node("Conv", inputs, out, **window)

    def relu(self, x):
        return self.node("Relu", [x], self.channels[x])

    def add(self, a, b):
        return self.node("Add", [a, b], self.channels[a])

    def pool(self, op, x, kernel, stride, pad=0):
        window = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        return self.node(op, [x], self.channels[x], **window)

    def classes(self, x, count):
        """The mean of every channel, and a linear layer."""
        channels = self.channels[x]
        x = self.node("GlobalAveragePool", [x], channels)
        x = self.node("Flatten", [x], channels)
        inputs = [x, self.weights(count, channels), self.weights(count)]
        return self.node("Gemm", inputs, count, transB=1)

    def model(self, batch, logits):
        shape = [batch, 3, self.size, self.size]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
        out = [batch, self.channels[logits]]
        out = helper.make_tensor_value_info(logits, TensorProto.FLOAT, out)
        graph = helper.make_graph(self.nodes, "net", [image], [out], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


def block(g, x, out, stride):
    """Two convolutions around which a residual goes."""
    y = g.relu(g.conv(x, out, stride=stride))
    y = g.conv(y, out)
    if stride != 1 or g.channels[x] != out:
        x = g.conv(x, out, kernel=1, stride=stride)
    return g.relu(g.add(y, x))


def resnet18(g):
    x = g.pool("MaxPool", g.relu(g.conv("image", 64, kernel=7, stride=2)), 3, 2, 1)
    for stage, channels in enumerate([64, 128, 256, 512]):
        x = block(g, x, channels, 1 if stage == 0 else 2)
        x = block(g, x, channels, 1)
    return g.classes(x, 1000)


def resnet20(g):
    x = g.relu(g.conv("image", 16))
    for stage, channels in enumerate([16, 32, 64]):
        for i in range(3):
            x = block(g, x, channels, 2 if stage > 0 and i == 0 else 1)
    return g.classes(x, 10)


def vgg11(g):
    x = "image"
    for channels in [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0]:
        if channels == 0:
            x = g.pool("MaxPool", x, 2, 2)
        else:
            x = g.relu(g.conv(x, channels))
    return g.classes(x, 10)


def bireal18(g):
    """A residual around each convolution, which sees the function of the stream and adds to the stream."""
    x = g.pool("MaxPool", g.conv("image", 64, kernel=7, stride=2), 3, 2, 1)
    for stage, channels in enumerate([64, 128, 256, 512]):
        for i in range(4):
            stride = 2 if stage > 0 and i == 0 else 1
            y = g.conv(g.relu(x), channels, stride=stride)
            if stride == 2:
                x = g.pool("AveragePool", x, 2, 2)
                x = g.conv(x, channels, kernel=1)
            x = g.add(y, x)
    return g.classes(x, 1000)


NETS = {"resnet18": (resnet18, 224), "vgg11": (vgg11, 32), "resnet20": (resnet20, 32), "bireal18": (bireal18, 224)}


def measure(model, image, threads, least):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": image})[0]
    assert np.isfinite(logits).all()
    times = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < least:
        start = time.perf_counter()
        session.run(None, {"image": image})
        times.append(time.perf_counter() - start)
    return statistics.median(times), len(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", default="1,32")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement, at least")
    parser.add_argument("--save", metavar="FOLDER", help="write the nets of batch 1 there, and measure nothing")
    args = parser.parse_args()
    numbers = lambda text: [int(n) for n in text.split(",")]
    results = []
    for name in args.nets.split(","):
        define, size = NETS[name]
        for batch in numbers(args.batch):
            graph = Graph(size)
            model = graph.model(batch, define(graph))
            if args.save:
                onnx.save(model, os.path.join(args.save, f"{name}-{batch}.onnx"))
                continue
            image = np.random.default_rng(2).random((batch, 3, size, size), np.float32)
            for threads in numbers(args.threads):
                seconds, runs = measure(model, image, threads, args.seconds)
                row = dict(net=name, threads=threads, batch=batch, seconds=seconds, runs=runs)
                results.append(row)
    print(json.dumps({"version": ort.__version__, "results": results}))


main()
