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
//! Activations with a zero point z count as a - z: sum w (a - z) = sum w a - z sum w, and max|a| above is max|a - z|.
//! Plans with a scale per group of K sum each group for itself, at most 256 * 255 * 255 < 2^24, and take any K.
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
//! **Linear** quantizers, symmetric or with a zero point: integer = clamp(round(x * (1 / scale)) + zero, low, high). The
//! reciprocal and the product are rounded to f32 once each, and the product to the nearest integer, ties to even. NaN
//! gets the integer of 0, the zero point; infinities and all that lies beyond get the ends. Symmetric codes of b bits
//! go from -(2^(b-1) - 1), so -2^(b-1) is not used; affine ones use all. A level quantizes to itself. A fixed scale
//! must lie in [1e-30, 1e30].
//!
//! **Scale of a row.** With lo and hi the least and greatest of 0 and the finite values of the row: symmetric, scale =
//! max(-lo, hi) / (2^(b-1) - 1), one division; affine, scale = hi / q - lo / q with q = 2^b - 1, and the zero point is
//! the lowest integer plus round(-lo * (1 / scale)), ties to even, clamped to the integers. A scale below the smallest
//! normal f32 becomes that (so does that of a row of zeros or of nothing), and one whose largest symmetric level is
//! not finite is one float less. So scales are always finite and positive; infinities in a row saturate, NaN gets the
//! zero point, and neither changes the scale.
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
//! A scale per group of K: t starts from 0, and for each group in ascending order the i32 sum of the group is
//! converted (exactly), multiplied by its scale and rounded, and added to t and rounded. Scales of f16 and bf16 are
//! converted to f32 first, exactly. Then the bias is added and rounded.
//!
//! A scale per row of activations: the product, or t, is multiplied by it and rounded before the bias is added.
//! Where a plan has no bias nothing is added.
//!
//! Codes between layers are those of the float computation above. Where it is faster ([`ops::Finish`](crate::ops::Finish)
//! says when) they come from thresholds: code = number of levels l with sign x sum > t_l. Those are found by bisection on
//! that computation (see [`ops::Thresholds`](crate::ops::Thresholds)), so that a frozen net and the
//! net in training agree on every code. A channel of slope zero has thresholds of -2^31 (always passed) or
//! 2^31 - 1 (never); no sum takes those values.
//!
//! # Weights times floats
//!
//! Weight-only products ([`ops::WeightOnlyGemm`](crate::ops::WeightOnlyGemm)) have fused multiply-adds, fma(x, y, z) =
//! x y + z rounded once, in one order. With w the integers of the weights, a the activations (f16 and bf16 converted to
//! f32, which is exact):
//!
//! ```text
//! 1 bit        s_g   = s_g + (p_k + p_(k + 2))        every fourth k of the group
//! 2 bits       s_g   = s_g + p_k                      every second k
//! more bits    s_g   = fma(w[k], a[k], s_g)           every k
//!              total = fma(scale_g, s_g, total)       for the groups
//!              out   = total + bias                   0 without a bias
//! ```
//!
//! with p_k = `fma(w[k + 1], a[k + 1], w[k] a[k])`; all ascending and from 0, activations behind K being 0. Bipolar, u1
//! and s1 have 1 bit, ternary, u2 and s2 have 2: so sums of a few activations can be looked up.
//!
//! Scales per tensor or channel are one group of all K: the product is rounded, then the sum with the bias. No ISA, tile,
//! block of K, number of rows or of threads changes the order; between blocks a sum is kept in f32, which loses nothing.
//! NaN and infinities flow by IEEE 754; which payload a NaN has is left open. Sums begin at +0, so that zeros add nothing,
//! not even a sign.
//!
//! # Pads of a convolution
//!
//! Outside of the image stands the integer 0, exactly, with every encoding and every output: bipolar codes have
//! no 0, so those taps are counted as -1 and the sums of their weights are added again, as integers, before anything
//! else happens to a sum. Where there is a zero point, it is what stands outside. Pads of +1 and -1 are to be had for
//! bipolar activations.
//!
//! # Pools
//!
//! The greatest of codes is that of their integers. Of floats a NaN is less than every other, so that a window of NaN
//! alone gives NaN; of 0.0 and -0.0 the one that comes first in the window stays. The mean of codes is their sum,
//! exact, converted to the nearest f32, times scale / count, a quotient rounded once; floats are summed row by row of
//! the window, from 0, in f32. Pads are no part of a window.
//!
//! # Threads
//!
//! Work is split by rows and output channels, never along K. Integers are exact in any order, and a float is
//! made from one integer or from one sum in a fixed order: results do not depend on the number of threads.
//!
//! # Assumed of the machine
//!
//! IEEE 754 single precision, round to nearest even, subnormals not flushed. A host that sets the
//! flush-to-zero or denormals-are-zero bits of its thread, or that is built with fast-math start-up code that
//! sets them, changes results near zero. Targets are little-endian.
