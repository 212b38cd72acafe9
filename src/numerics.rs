//! The page of numerics: every tie, clamp, zero, NaN and pad, once.
//!
//! Training, the SIMD kernels, files and the C functions all follow this page; the tests of the kernels hold
//! them to it bit for bit, on every ISA.
//!
//! # Integers
//!
//! | encoding | integers | bit planes, lowest first |
//! |---|---|---|
//! | bipolar | -1, +1 | 1: bit 1 is +1 |
//! | ternary | -1, 0, +1 | 2: sign (1 is +1, and 0 for zero), nonzero |
//! | unsigned b-bit | 0 .. 2^b - 1 | b: plane i weighs 2^i |
//! | signed b-bit | -2^(b-1) .. 2^(b-1) - 1 | b: two's complement |
//!
//! In the canonical packed form a plane is ceil(K / 32) words of 32 bits, column k in bit k mod 32 of word
//! k / 32; in a file or in C a word is four bytes, least significant first. **The bits behind K are zero**, so
//! padding adds nothing to any popcount. There is no other padding: any K works.
//!
//! # Products
//!
//! Activations `[M, K]` times weights `[N, K]` give sums `[M, N]` in i32, exact, for every pair of encodings but
//! ternary activations. An integer is an offset plus weighted bits, w = o_w + sum_i c_i W_i, a = o_a + sum_j d_j A_j,
//! so with pc() a popcount
//!
//! ```text
//! sum w a = sum_ij c_i d_j pc(W_i and A_j) + o_w sum a + o_a sum w - K o_w o_a
//! bipolar w, bipolar a:   sum w a = K - 2 pc(w xor a)
//! ternary w, bipolar a:   sum w a = pc(z) - 2 pc((s xor a) and z)       s: sign plane, z: nonzero plane
//! ```
//!
//! Where many planes meet, bytes are multiplied instead: the same integers. Intermediate arithmetic is modulo
//! 2^32, so the result is exact whenever it fits, and |sum| <= K max|w| max|a| always fits: a plan is refused whose K
//! exceeds floor((2^31 - 1) / (max|w| max|a|)). With bipolar or ternary weights that is 2,147,483,647 for bipolar
//! activations and u1, 715,827,882 for u2, 143,165,576 for u4, 8,421,504 for u8; for s8 x s8 it is 131,071.
//!
//! # Floats to codes
//!
//! **Sign** (bipolar): +1 if x >= 0, else -1. So 0.0 and -0.0 give +1, and NaN of either sign gives -1.
//!
//! **Quantized ReLU** of b bits with step alpha, q = 2^b - 1: the code is the number of thresholds that x
//! passes, T_c for c = 0 .. q - 1:
//!
//! | rounding | T_c | passed when | a tie |
//! |---|---|---|---|
//! | `Ceil` (Blended Coarse Gradient Descent, arXiv 1808.05240) | c alpha | x > T_c | x = k alpha gets level k |
//! | `Nearest` | (c + 1/2) alpha | x >= T_c | x = (k + 1/2) alpha gets level k + 1 |
//!
//! Each T_c is one f32 product, rounded once. Zero of either sign gets level 0, everything above T_(q-1) and
//! +infinity gets q, and NaN, which passes nothing, gets 0. A level quantizes to itself. alpha must lie in
//! [1e-30, 1e30]. f16 and bf16 inputs are converted to f32, which is exact, and then follow the same rule.
//!
//! # Weights to codes
//!
//! Binary weights: bit = (w >= 0), so 0.0 and -0.0 are +1 and NaN is -1; the scale delta = mean |w| is summed
//! in f64 in eight fixed strands (element i goes to strand i mod 8, whole groups of eight first) and rounded
//! to f32 once. A NaN weight makes delta NaN.
//!
//! # Codes to floats
//!
//! Scale and bias: the i32 sum is converted to the nearest f32 (ties to even), multiplied by the scale and
//! rounded, then the bias is added and rounded. The two are never contracted into one fused operation, so the
//! floats are the same on every ISA.
//!
//! Thresholds between layers: code = number of levels l with sign x sum > t_l. They are found by bisection on
//! the float computation above (see [`ops::Thresholds`](crate::ops::Thresholds)), so that a frozen net and the
//! net in training agree on every code. A channel of slope zero has thresholds of -2^31 (always passed) or
//! 2^31 - 1 (never); no sum takes those values.
//!
//! # Pads of a convolution
//!
//! Outside of the image stands the integer 0, exactly, with every encoding and every output: bipolar codes have
//! no 0, so those taps are counted as -1 and the sums of their weights are added again, as integers, before anything
//! else happens to a sum. Pads of +1 and -1 are to be had for bipolar activations.
//!
//! # Threads
//!
//! Work is split by rows and output channels, never along K. Integers are exact in any order, and a float is
//! made from one integer: results do not depend on the number of threads.
//!
//! # Assumed of the machine
//!
//! IEEE 754 single precision, round to nearest even, subnormals not flushed. A host that sets the
//! flush-to-zero or denormals-are-zero bits of its thread, or that is built with fast-math start-up code that
//! sets them, changes results near zero. Targets are little-endian.
