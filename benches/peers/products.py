"""Products of onnxruntime, one thread, for the bench `peers`: commands come on stdin, answers go to stdout.

    case ID OP BITS BLOCK N M K WEIGHTS ACTIVATIONS OUT   builds, runs once, writes OUT; "ok BYTES" or "skip REASON"
    run ID SECONDS                                        "ok SECONDS", those of one call, over at least so long
    drop ID                                               "ok"

WEIGHTS is [N, K] of int8. ACTIVATIONS is [M, K] of uint8 for MatMulInteger and DynamicQuantizeMatMul, of int8
for MatMulNBits. OUT becomes [M, N] of float32 or, for MatMulInteger, of int32. BYTES are those of the weights.
"""

import math
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"


def weights_by_block(np, weights, bits, block):
    """Codes, low bits first, as MatMulNBits wants them: [N, blocks, block * bits / 8]."""
    n, k = weights.shape
    blocks = math.ceil(k / block)
    codes = np.full((n, blocks * block), 1 << (bits - 1), np.uint8)
    codes[:, :k] = (weights.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    each = 8 // bits
    codes = codes.reshape(n, blocks, block * bits // 8, each)
    packed = np.zeros(codes.shape[:3], np.uint8)
    for i in range(each):
        packed |= codes[..., i] << (i * bits)
    return packed, blocks


class Case:
    def __init__(self, op, bits, block, n, m, k, weights, activations, out):
        import numpy as np
        import onnx
        import onnxruntime as ort
        from onnx import TensorProto, helper, numpy_helper

        w = np.fromfile(weights, np.int8).reshape(n, k)
        domain, attributes = "", {}
        result = TensorProto.FLOAT
        if op == "MatMulNBits":
            a = np.fromfile(activations, np.int8).reshape(m, k).astype(np.float32)
            packed, blocks = weights_by_block(np, w, bits, block)
            constants = {"B": packed, "scales": np.ones(n * blocks, np.float32)}
            domain = "com.microsoft"
            attributes = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4}
        else:
            a = np.fromfile(activations, np.uint8).reshape(m, k)
            constants = {"B": np.ascontiguousarray(w.T)}
            if op == "MatMulInteger":
                result = TensorProto.INT32
            else:
                a = a.astype(np.float32)
                domain = "com.microsoft"
                constants["scale"] = np.ones(1, np.float32)
        kind = TensorProto.UINT8 if a.dtype == np.uint8 else TensorProto.FLOAT
        graph = helper.make_graph(
            [helper.make_node(op, ["A", *constants], ["Y"], domain=domain, **attributes)],
            "product",
            [helper.make_tensor_value_info("A", kind, [m, k])],
            [helper.make_tensor_value_info("Y", result, [m, n])],
            [numpy_helper.from_array(v, name) for name, v in constants.items()],
        )
        imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
        self.binding = self.session.io_binding()
        self.a = ort.OrtValue.ortvalue_from_numpy(a)
        kind = np.int32 if result == TensorProto.INT32 else np.float32
        self.y = ort.OrtValue.ortvalue_from_shape_and_type([m, n], kind, "cpu")
        self.binding.bind_ortvalue_input("A", self.a)
        self.binding.bind_ortvalue_output("Y", self.y)
        self.run()
        self.y.numpy().tofile(out)
        self.bytes = sum(v.nbytes for v in constants.values())

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def seconds(self, least):
        self.run()
        calls, start = 0, time.perf_counter()
        while True:
            self.run()
            calls += 1
            passed = time.perf_counter() - start
            if passed >= least:
                return passed / calls


def answer(cases, words):
    if words[0] == "run":
        return f"ok {cases[words[1]].seconds(float(words[2])):.9g}"
    if words[0] == "drop":
        cases.pop(words[1], None)
        return "ok"
    ident, op, *rest = words[1:]
    case = Case(op, *map(int, rest[:5]), *rest[5:])
    cases[ident] = case
    return f"ok {case.bytes}"


def main():
    try:
        import numpy  # noqa: F401
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as missing:
        print(f"skip {missing}", flush=True)
        return
    print(f"ok {onnxruntime.__version__}", flush=True)
    cases = {}
    for line in sys.stdin:
        try:
            said = answer(cases, line.split())
        except Exception as problem:  # Whatever an operator does not serve is named, not hidden.
            said = "skip " + " ".join(str(problem).split())[:200]
        print(said, flush=True)


main()
