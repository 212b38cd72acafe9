#!/usr/bin/env python3
"""Predicted speed of the hot loops on cores that are not at hand, and their instructions, by mnemonic.

    predict.py BINARY [--mca llvm-mca] [--objdump llvm-objdump] [--symbolizer llvm-symbolizer] [--json FILE]

BINARY is a release build of qcore for x86-64 (the program) or AArch64 (libqcore.so with its symbols):

    cargo build --release
    cargo rustc --release --lib --crate-type cdylib --no-default-features --target aarch64-unknown-linux-gnu

A kernel's hot loop is the innermost loop (a backward jump with none inside) of its functions that multiplies
most in an iteration: its largest tile. Its functions are the pieces of the ISA's instructions (see src/kernels/piece.rs)
whose lines come from the file of its algorithm. The bound is what the same model says of the loop of `qcore bench` that does
the same on registers alone. All of it is prediction by LLVM's scheduling models, nothing is measured; a model may
be that of a related core (LLVM has none of its own for Cortex-A76 and Apple M1).
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess

# What one instruction of a kernel multiplies and adds, by mnemonic and register: bits that are counted, or products.
X86 = {
    "vpopcntd zmm": 512,
    "vpdpbusd zmm": 64,
    "vpdpbusd ymm": 32,
    "vpmaddubsw zmm": 64,
    "vpmaddubsw ymm": 32,
    "vpmaddwd zmm": 32,
    "vpmaddwd ymm": 16,
    # Two look-ups for a vector of bits, or one of four weights for each of as many channels.
    "vpshufb zmm": 256,
    "vpshufb ymm": 128,
    # A look-up of six weights for each of 64 channels.
    "vpermb zmm": 384,
    # Of six weights for each of 32, by either of its two forms.
    "vpermi2w zmm": 192,
    "vpermt2w zmm": 192,
    "vfmadd231ps zmm": 16,
    "vfmadd231ps ymm": 8,
}
ARM = {
    "cnt": 128,
    "udot": 16,
    "sdot": 16,
    "usdot": 16,
    "usmmla": 32,
    # A look-up of four weights for each of 16 channels.
    "tbl": 64,
    "umlal": 8,
    "umlal2": 8,
    "smlal": 8,
    "smlal2": 8,
    "umull": 8,
    "umull2": 8,
    "smull": 8,
    "smull2": 8,
    "fmla": 4,
}

# Kernel, the type of its pieces or the end of its path, the file of its algorithm, what it multiplies with, the end of its
# bound's path, which cores have it, and an instruction that tells its loop from others, or with a minus one that these
# have.
Kernel = collections.namedtuple("Kernel", "name symbol file marks bound level needs", defaults=[None])

# The instructions that a step should take, and their number for so many MAC.
SEQUENCES = {
    "avx512 bits": ("vpxord vpandd vpopcntd vpaddd", 3, 512),
    "avx512 bits, ternary": ("vpternlogd vpopcntd vpaddd", 3, 512),
    "avx512 bytes": ("vpdpbusd", 1, 64),
    "avx512 look-up": ("vpermb vpaddb vpsrlw vpaddw", 6, 768),
    "avx512 look-up, u8": ("vpermi2w vpermt2w vpaddw", 2, 192),
    "avx512bw bits": ("vpxord vpandd vpandq vpsrlw vpshufb vpaddb", 8, 512),
    "avx512bw bytes": ("vpmaddubsw vpaddw", 2, 64),
    "avx512bw bytes, 8 bits": ("vpmaddwd vpaddd", 2, 32),
    "avx512bw look-up": ("vpshufb vpaddb", 2, 256),
    "avx512bw look-up, u4": ("vpshufb vpaddb vpsrlw vpaddw", 10, 1024),
    "avx2 bits": ("vpxor vpand vpsrlw vpshufb vpaddb", 8, 256),
    "avx2 bytes": ("vpmaddubsw vpaddw", 2, 32),
    "avx2 bytes, 8 bits": ("vpmaddwd vpaddd", 2, 16),
    "avx2 look-up": ("vpshufb vpaddb", 2, 128),
    "avx2 look-up, u4": ("vpshufb vpaddb vpsrlw vpaddw", 10, 512),
    "avx2vnni bytes": ("vpdpbusd", 1, 32),
    "neon bits": ("eor and cnt add", 3, 128),
    "neon bytes": ("umlal umlal2", 2, 16),
    "neon bytes, 8 bits": ("umull uadalp umull2", 4, 16),
    "neondot bytes": ("udot", 1, 16),
    "neoni8mm bytes": ("usmmla", 1, 32),
    "neon look-up": ("tbl add", 2, 64),
    "neon look-up, u4": ("tbl add usra", 9, 256),
    "neon floats": ("fmla", 1, 4),
}


def sequence(kernel, loop, table):
    """How many instructions of the sequence the loop has, how many it should have, and how many others."""
    names, ops, each = SEQUENCES[kernel.name]
    vector = [l for l in loop if re.search(r"[xyz]mm|\bv\d+\.", l.text)]
    had = sum(l.mnemonic in names.split() for l in vector)
    return had, macs(loop, kernel.marks, table) * ops // each, len(loop) - had
X86_KERNELS = [
    Kernel("avx512 bits", "avx512 Popcnt", "bitgemm", ["vpopcntd zmm"], "x86 zmm_count", 2, "-vpternlogd"),
    Kernel(
        "avx512 bits, ternary",
        "avx512 Popcnt",
        "bitgemm",
        ["vpopcntd zmm"],
        "x86 zmm_count_masked",
        2,
        "vpternlogd",
    ),
    Kernel("avx512 bytes", "avx512 Vnni", "bytegemm", ["vpdpbusd zmm"], "x86 zmm_dot", 2),
    Kernel("avx512 look-up", "avx512 lut Sixes", "lutgemm", ["vpermb zmm"], "x86 zmm_look_up", 2),
    Kernel("avx512 look-up, u8", "avx512 lut16 run", None, ["vpermi2w zmm", "vpermt2w zmm"], "x86 zmm_look_up_wide", 2),
    Kernel("avx512bw bits", "avx512bw Nibbles", "bitgemm", ["vpshufb zmm"], "x86 zmm_count_bytes", 1),
    Kernel("avx512bw bytes", "avx512bw Madd", "bytegemm", ["vpmaddubsw zmm"], "x86 zmm_madd", 1),
    Kernel(
        "avx512bw bytes, 8 bits", "avx512bw Madd", "bytegemm", ["vpmaddwd zmm"], "x86 zmm_madd_wide", 1
    ),
    Kernel("avx512bw look-up", "avx512bw lut Fours", "lutgemm", ["vpshufb zmm"], "x86 zmm_look_up_nibbles", 1, "-vpaddw"),
    Kernel(
        "avx512bw look-up, u4",
        "avx512bw lut Fours",
        "lutgemm",
        ["vpshufb zmm"],
        "x86 zmm_look_up_nibbles_widen",
        1,
        "vpaddw",
    ),
    Kernel("avx2 bits", "avx2 Nibbles", "bitgemm", ["vpshufb ymm"], "x86 ymm_count", 0),
    Kernel("avx2 bytes", "avx2 Madd", "bytegemm", ["vpmaddubsw ymm"], "x86 ymm_dot", 0),
    Kernel("avx2 bytes, 8 bits", "avx2 Madd", "bytegemm", ["vpmaddwd ymm"], "x86 ymm_dot_wide", 0),
    Kernel("avx2 look-up", "avx2 lut Fours", "lutgemm", ["vpshufb ymm"], "x86 ymm_look_up", 0, "-vpaddw"),
    Kernel("avx2 look-up, u4", "avx2 lut Fours", "lutgemm", ["vpshufb ymm"], "x86 ymm_look_up_widen", 0, "vpaddw"),
    Kernel("avx2vnni bytes", "avx2 Vnni", "bytegemm", ["vpdpbusd ymm"], "x86 ymm_vnni", 3),
]
ARM_KERNELS = [
    Kernel("neon bits", "neon Cnt", "bitgemm", ["cnt"], "aarch64 count", 0),
    Kernel("neon bytes", "neon_bytes Long", "bytegemm", ["umlal", "umlal2"], "aarch64 long", 0),
    Kernel(
        "neon bytes, 8 bits", "neon_bytes Long", "bytegemm", ["umull", "umull2"], "aarch64 long_wide", 0
    ),
    Kernel("neondot bytes", "neon_bytes Alike", "bytegemm", ["udot"], "aarch64 dot", 1),
    Kernel("neoni8mm bytes", "neon_bytes Mixed", "bytegemm", ["usmmla"], "aarch64 mixed_pairs", 2),
    Kernel("neon look-up", "neon_lut Sixteen", "lutgemm", ["tbl"], "aarch64 look_up", 0, "-usra"),
    Kernel("neon look-up, u4", "neon_lut Sixteen", "lutgemm", ["tbl"], "aarch64 look_up_widen", 0, "usra"),
    Kernel("neon floats", "neon floats tiles", None, ["fmla"], "aarch64 fma", 0),
]
# Name for people, LLVM's name, kernels up to this level run there (3: AVX-VNNI, on its own).
X86_CPUS = [
    ("Skylake-X", "skylake-avx512", (0, 1)),
    ("Ice Lake", "icelake-server", (0, 1, 2)),
    ("Sapphire Rapids", "sapphirerapids", (0, 1, 2, 3)),
    ("Zen 4", "znver4", (0, 1, 2)),
]
ARM_CPUS = [
    ("Cortex-A76", "cortex-a76", (0, 1)),
    ("Neoverse V1", "neoverse-v1", (0, 1, 2)),
    ("Neoverse N2", "neoverse-n2", (0, 1, 2)),
    ("Apple M1", "apple-m1", (0, 1)),
]

Line = collections.namedtuple("Line", "address text mnemonic target")


def symbols(binary):
    """Mangled names of functions."""
    out = subprocess.run(["nm", "--defined-only", binary], capture_output=True, text=True, check=True)
    lines = (line.split() for line in out.stdout.splitlines())
    return [p[2] for p in lines if len(p) == 3 and p[1] in "tT" and "kernels" in p[2]]


def path(mangled):
    """The words of a mangled path: each stands behind its length."""
    words, at = [], 0
    while at < len(mangled):
        m = re.compile(r"\d+").search(mangled, at)
        if not m:
            break
        length, start = int(m.group()), m.end()
        if mangled[start : start + 1] == "_":
            start += 1
        word = mangled[start : start + length]
        if length and len(word) == length and re.fullmatch(r"\w+", word):
            words.append(word)
            at = start + length
        else:
            at = m.end()
    return words


def find(names, wanted):
    """The symbol whose path ends in these words; a hash may follow."""
    wanted = wanted.split()
    for name in names:
        words = [w for w in path(name) if not re.fullmatch(r"h[0-9a-f]{16}", w)]
        if words[-len(wanted) :] == wanted:
            return name
    return None


def pieces(names, wanted):
    """The symbols of all pieces that are compiled with these features."""
    features = "..".join(wanted.split()) + "$u20$as$u20$qcore..kernels..piece..Features"
    return ",".join(name for name in names if f"kernels..{features}" in name)


def comes_from(symbolizer, binary, address, file):
    """Whether a line of this file of kernels is among those that the instruction is from."""
    command = [symbolizer, f"--obj={binary}", hex(address)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"kernels/{file}.rs:" in out


def lines_of(objdump, binary, symbol):
    command = [objdump, "-d", "--no-show-raw-insn", f"--disassemble-symbols={symbol}", binary]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = []
    for text in out.splitlines():
        m = re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", text)
        if not m:
            continue
        address, mnemonic, operands = int(m[1], 16), m[2], m[3]
        prefix = ""
        if mnemonic.startswith("{"):
            prefix, (mnemonic, operands) = mnemonic + " ", operands.split(None, 1)
        target = re.search(r"(?:^|\s|,)(0x[0-9a-f]+) <", operands)
        jumps = re.match(r"(j|b\.|b$|cbn?z|tbn?z)", mnemonic)
        target = int(target[1], 16) if jumps and target else None
        operands = re.sub(r"\s*(<[^>]*>|//.*|#.*0x.*<.*)", "", operands)
        lines.append(Line(address, f"{prefix}{mnemonic} {operands}".strip(), mnemonic, target))
    return lines


def arm_bound(name):
    """The loop on registers alone of this name, from its source: the library leaves out what it does not export."""
    source = pathlib.Path(__file__).parents[2] / "src/kernels/bounds/aarch64.rs"
    for body in re.findall(r"rounds!\((.*?)\n\);", source.read_text(encoding="utf-8"), re.S):
        # Not what stands in attributes.
        body = re.sub(r"#\[.*?\]|///.*", "", body)
        if not re.match(rf"\s*{name},", body):
            continue
        text = re.findall(r'"([^"]*)"', body.replace("{{", "{").replace("}}", "}"))
        accumulators = [*range(0, 8), *range(16, 24)]
        each = [t.replace("\\\\i\\\\()", str(i)) for i in accumulators for t in text]
        lines = [Line(0, t, t.split()[0], None) for t in [*each, "subs x0, x0, #1"]]
        return [*lines, Line(0, "b.ne 0x0", "b.ne", 0)]
    return None


def kind(line):
    """The mnemonic, with the widest vector register on x86."""
    for register in ("zmm", "ymm", "xmm"):
        if register in line.text:
            return f"{line.mnemonic} {register}"
    return line.mnemonic


def loops(lines):
    """Innermost loops."""
    at = {line.address: i for i, line in enumerate(lines)}
    jumps = [(at[l.target], i) for i, l in enumerate(lines) if l.target in at and at[l.target] <= i]
    inner = [(a, b) for a, b in jumps if not any((c, d) != (a, b) and a <= c and d <= b for c, d in jumps)]
    return [lines[a : b + 1] for a, b in inner]


def macs(loop, marks, table):
    return sum(table[kind(l)] for l in loop if kind(l) in marks)


def hottest(lines, marks, table, needs=None, is_from=lambda address: True):
    """The loop that multiplies most with these instructions; of equals that with most accumulators, and the shortest."""
    def fits(loop):
        there = {l.mnemonic for l in loop}
        return not needs or (needs[1:] not in there if needs.startswith("-") else needs in there)

    able = [loop for loop in loops(lines) if fits(loop)]

    def rank(loop):
        adding = [l.text for l in loop if kind(l) in marks and re.search("vpdpbusd|dot|mlal", l.text)]
        accumulators = {re.split(r",? ", text)[1 if table is ARM else -1] for text in adding}
        return macs(loop, marks, table), len(accumulators), -len(loop)

    for loop in sorted(able, key=rank, reverse=True):
        marked = [l.address for l in loop if kind(l) in marks]
        if marked and is_from(marked[0]):
            return loop
    return None


def cycles(mca, triple, cpu, loop):
    """Cycles of an iteration."""
    text = ["top:"]
    for i, line in enumerate(loop):
        if line.target is None:
            text.append(line.text)
        elif i + 1 == len(loop):
            text.append(re.sub(r"0x[0-9a-f]+", "top", line.text))
        # A jump out of the middle is not taken.
    rounds = 1000
    command = [mca, f"-mtriple={triple}", f"-mcpu={cpu}", f"-iterations={rounds}", "-json"]
    run = subprocess.run(command, input="\n".join(text) + "\n", capture_output=True, text=True)
    if run.returncode:
        return None
    summary = json.loads(run.stdout)["CodeRegions"][0]["SummaryView"]
    return summary["TotalCycles"] / rounds


def main():
    options = argparse.ArgumentParser()
    options.add_argument("binary")
    options.add_argument("--mca", default="llvm-mca")
    options.add_argument("--objdump", default="llvm-objdump")
    options.add_argument("--symbolizer", default="llvm-symbolizer")
    options.add_argument("--json")
    given = options.parse_args()
    header = subprocess.run([given.objdump, "-f", given.binary], capture_output=True, text=True, check=True)
    arm = "aarch64" in header.stdout
    kernels, cpus, table = (ARM_KERNELS, ARM_CPUS, ARM) if arm else (X86_KERNELS, X86_CPUS, X86)
    triple = "aarch64" if arm else "x86_64"
    version = subprocess.run([given.mca, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"LLVM version (\S+)", version)
    names = symbols(given.binary)
    found, rows = [], []
    for kernel in kernels:
        def is_from(address):
            return not kernel.file or comes_from(given.symbolizer, given.binary, address, kernel.file)

        symbol = pieces(names, kernel.symbol) if kernel.file else find(names, kernel.symbol)
        loop = symbol and hottest(
            lines_of(given.objdump, given.binary, symbol), kernel.marks, table, kernel.needs, is_from
        )
        if not loop:
            print(f"skipped: {kernel.name}: no loop of {' '.join(kernel.marks)} in {kernel.symbol}\n")
            continue
        found.append((kernel, loop))
        if arm:
            bound = arm_bound(kernel.bound.split()[-1])
        else:
            bound = find(names, kernel.bound)
            bound = bound and hottest(lines_of(given.objdump, given.binary, bound), kernel.marks, table)
        for name, cpu, levels in cpus:
            if kernel.level not in levels:
                continue
            count = macs(loop, kernel.marks, table)
            taken = cycles(given.mca, triple, cpu, loop)
            least = bound and cycles(given.mca, triple, cpu, bound)
            rows.append(
                {
                    "kernel": kernel.name,
                    "cpu": name,
                    "mac_per_iteration": count,
                    "instructions": len(loop),
                    "predicted_mac_per_cycle": taken and round(count / taken, 1),
                    "predicted_bound": least and round(macs(bound, kernel.marks, table) / least, 1),
                }
            )
    print(f"Predictions of llvm-mca {version and version[1]}, not measurements.\n")
    print("| kernel | core | MAC in an iteration | instructions | predicted MAC/cycle | predicted bound | % |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        rate, bound = r["predicted_mac_per_cycle"], r["predicted_bound"]
        if rate is None:
            rate = "not modelled"
            percent = bound = ""
        else:
            percent = round(100 * rate / bound) if bound else ""
        cells = [r["kernel"], r["cpu"], r["mac_per_iteration"], r["instructions"], rate, bound, percent]
        print("| " + " | ".join(str(c) for c in cells) + " |")
    print("\n| kernel | MAC in an iteration | of the sequence | expected | others | all instructions of the hot loop |")
    print("|---|---|---|---|---|---|")
    for kernel, loop in found:
        counted = collections.Counter(l.mnemonic for l in loop)
        said = ", ".join(f"{n} {m}" for m, n in sorted(counted.items(), key=lambda c: (-c[1], c[0])))
        had, expected, others = sequence(kernel, loop, table)
        cells = [kernel.name, macs(loop, kernel.marks, table), had, expected, others, said]
        print("| " + " | ".join(str(c) for c in cells) + " |")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            objects = (json.dumps(row, separators=(",", ":")) for row in rows)
            file.write("[\n" + ",\n".join(objects) + "\n]\n")


main()
