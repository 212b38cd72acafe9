/*
 * qcore: low-bit neural networks on ordinary CPUs.
 *
 * Made by cbindgen from src/ffi. To make it anew:
 * QCORE_WRITE_HEADER=1 cargo test --test ffi header
 *
 * Status. Every function that can fail returns an `int32_t`: `QC_OK`, which is 0, or an error number.
 * Numbers are never reused. The text that goes with the last error of the calling thread is
 * `qc_last_error()`; it names the argument, the value that came and what was expected.
 *
 * Handles. `qc_..._new` or `qc_..._load` makes one, `qc_..._free` ends it and does nothing with NULL.
 * A handle that is passed is one that this library made and that is not freed yet, nor freed by
 * another thread during the call.
 *
 * Pointers. NULL is refused by name wherever it is not said to mean something. A pointer to elements
 * with a length of 0 may be NULL. Addresses are multiples of the size of the element. The caller
 * promises that a length does not exceed the memory behind its pointer, and that during a call nobody
 * writes to what it reads and nobody touches what it writes; so outputs overlap with nothing.
 * Results are written only if the call succeeds.
 *
 * Structs that begin with `struct_size` may grow at their end. Set it to the `sizeof` of the struct,
 * or let `qc_..._init` do it, which fills in the defaults too. Bytes that this version does not know
 * must be zero in options and stay as they are in results.
 *
 * Threads. A `qc_gemm`, a `qc_weight_only`, a `qc_conv2d`, a `qc_float_conv2d`, a `qc_max_pool`, a
 * `qc_average_pool`, a `qc_model` and a `qc_pool` may be used by many threads at once. A
 * `qc_workspace`, a `qc_model_builder`, a `qc_freezer` and a `qc_trainer` are for one call at a time; a second one is
 * refused with `QC_ERROR_BUSY`. Where a call
 * takes a pool, NULL means the calling thread alone. Results do not depend on the threads nor on the
 * ISA. After `fork` the child may use what it inherited; a pool has no workers there, so its work runs
 * on the calling thread.
 *
 * Panics. A defect inside the library does not unwind into the caller: the call returns
 * `QC_ERROR_PANIC`, and the handle that it worked on refuses every later call with
 * `QC_ERROR_POISONED`. Running out of memory aborts the process.
 */


#ifndef QCORE_H
#define QCORE_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header; `qc_version` tells that of the library. */
#define QCORE_VERSION "0.1.0"
#define QCORE_VERSION_MAJOR 0
#define QCORE_VERSION_MINOR 1
#define QCORE_VERSION_PATCH 0


/**
 * Everything went well.
 */
#define QC_OK 0

/**
 * A pointer is NULL that must not be.
 */
#define QC_ERROR_NULL 100

/**
 * An argument is outside of what the call takes.
 */
#define QC_ERROR_ARGUMENT 101

/**
 * An ISA was asked for, by name or by QCORE_ISA, that this build or this machine lacks.
 */
#define QC_ERROR_ISA 102

/**
 * The operating system refused to read or write.
 */
#define QC_ERROR_IO 200

/**
 * A file or buffer is foreign, truncated, damaged or of an unknown version.
 */
#define QC_ERROR_FORMAT 201

/**
 * A thread pool could not be started.
 */
#define QC_ERROR_THREADS 300

/**
 * Another call is using the workspace.
 */
#define QC_ERROR_BUSY 301

/**
 * Training met a loss that is not finite.
 */
#define QC_ERROR_DIVERGED 400

/**
 * A defect in qcore: the call panicked.
 */
#define QC_ERROR_PANIC 900

/**
 * An earlier call on this handle panicked; it can only be freed.
 */
#define QC_ERROR_POISONED 901

/**
 * Encoding: -1 and +1; 1 bit plane.
 */
#define QC_BIPOLAR 1

/**
 * Encoding: -1, 0 and +1; 2 bit planes.
 */
#define QC_TERNARY 2

/**
 * Encoding: unsigned of 1 bit, 0 .. 1. QC_U1 + b - 1 is unsigned of b bits, 0 .. 2^b - 1.
 */
#define QC_U1 11

/**
 * Encoding: 0 .. 3.
 */
#define QC_U2 12

/**
 * Encoding: 0 .. 7.
 */
#define QC_U3 13

/**
 * Encoding: 0 .. 15.
 */
#define QC_U4 14

/**
 * Encoding: 0 .. 31.
 */
#define QC_U5 15

/**
 * Encoding: 0 .. 63.
 */
#define QC_U6 16

/**
 * Encoding: 0 .. 127.
 */
#define QC_U7 17

/**
 * Encoding: 0 .. 255.
 */
#define QC_U8 18

/**
 * Encoding: two's complement of 1 bit, -1 .. 0. QC_S1 + b - 1 has b bits, -2^(b-1) .. 2^(b-1) - 1.
 */
#define QC_S1 21

/**
 * Encoding: -2 .. 1.
 */
#define QC_S2 22

/**
 * Encoding: -4 .. 3.
 */
#define QC_S3 23

/**
 * Encoding: -8 .. 7.
 */
#define QC_S4 24

/**
 * Encoding: -16 .. 15.
 */
#define QC_S5 25

/**
 * Encoding: -32 .. 31.
 */
#define QC_S6 26

/**
 * Encoding: -64 .. 63.
 */
#define QC_S7 27

/**
 * Encoding: -128 .. 127.
 */
#define QC_S8 28

/**
 * Quantizer: QC_BIPOLAR codes, +1 for x >= 0 (so for 0.0 and -0.0), -1 for x < 0 and for NaN.
 */
#define QC_SIGN 1

/**
 * Quantizer: unsigned codes of `bits` bits, for levels alpha * {0, .., 2^bits - 1}; NaN has code 0.
 */
#define QC_RELU 2

/**
 * Quantizer: signed codes of `bits` bits, 2 to 8, for alpha * {-max, .., max}, max = 2^(bits-1) - 1: the nearest
 * to x * (1 / alpha), ties to even; NaN has code 0.
 */
#define QC_SYMMETRIC 3

/**
 * Quantizer: unsigned codes of `bits` bits for alpha * (code - zero_point): the nearest to x * (1 / alpha), ties to
 * even, plus the zero point; NaN has the code of 0.
 */
#define QC_AFFINE 4

/**
 * Quantizer: as `QC_AFFINE`, in two's complement.
 */
#define QC_AFFINE_SIGNED 5

/**
 * Rounding: code c for (c - 1) alpha < x <= c alpha.
 */
#define QC_CEIL 1

/**
 * Rounding: code c for (c - 1/2) alpha <= x < (c + 1/2) alpha, the nearest level, ties upwards.
 */
#define QC_NEAREST 2

/**
 * Type of numbers: IEEE 754 single precision.
 */
#define QC_F32 0

/**
 * Type of numbers: IEEE 754 half precision, given as its 16 bits.
 */
#define QC_F16 1

/**
 * Type of numbers: bfloat16, given as its 16 bits.
 */
#define QC_BF16 2

/**
 * Granularity of scales: one for all weights.
 */
#define QC_PER_TENSOR 0

/**
 * Granularity of scales: one for each output channel.
 */
#define QC_PER_CHANNEL 1

/**
 * Granularity of scales: one for each group of neighbours along K, `[N, ceil(K / group)]` row-major.
 */
#define QC_PER_GROUP 2

/**
 * Method: bit-serial popcounts.
 */
#define QC_METHOD_BITS 1

/**
 * Method: multiply-add of bytes.
 */
#define QC_METHOD_BYTES 2

/**
 * Method: look-up of sums in tables.
 */
#define QC_METHOD_TABLES 4

/**
 * Output: the sums themselves, `int32_t`.
 */
#define QC_OUT_I32 0

/**
 * Output: `float`.
 */
#define QC_OUT_F32 1

/**
 * Output: IEEE 754 halves as their 16 bits, the nearest, ties to even.
 */
#define QC_OUT_F16 2

/**
 * Output: bfloat16 as their 16 bits, the nearest, ties to even.
 */
#define QC_OUT_BF16 3

/**
 * Output: packed codes, `uint32_t` words.
 */
#define QC_OUT_CODES 4

/**
 * Output: codes a byte each, `uint8_t`; signed ones in two's complement of eight bits.
 */
#define QC_OUT_BYTES 5

/**
 * Activation function: y itself.
 */
#define QC_FUNCTION_IDENTITY 0

/**
 * Activation function: y where y > 0, else 0 (so for NaN).
 */
#define QC_FUNCTION_RELU 1

/**
 * Activation function: y where y >= 0, else slope\[n\] y.
 */
#define QC_FUNCTION_PRELU 2

/**
 * Activation function: prelu(y - before\[n\]) + after\[n\].
 */
#define QC_FUNCTION_RPRELU 3

/**
 * Activation function: y, but at least `low` (so for NaN) and at most `high`.
 */
#define QC_FUNCTION_CLAMP 4

/**
 * Residual: none.
 */
#define QC_RESIDUAL_NONE 0

/**
 * Residual: added before the activation function.
 */
#define QC_RESIDUAL_BEFORE 1

/**
 * Residual: added after the activation function.
 */
#define QC_RESIDUAL_AFTER 2

/**
 * Pad: the integer 0, exactly, also around bipolar activations, which have no code for it.
 */
#define QC_PAD_ZERO 0

/**
 * Pad: +1, for bipolar activations only.
 */
#define QC_PAD_PLUS_ONE 1

/**
 * Pad: -1, for bipolar activations only.
 */
#define QC_PAD_MINUS_ONE 2

/**
 * Threads share the work on each image.
 */
#define QC_MODE_LATENCY 0

/**
 * Each thread has images of its own.
 */
#define QC_MODE_THROUGHPUT 1

/**
 * Kind: packed codes, `uint32_t` words, a row of the packed form a pixel.
 */
#define QC_KIND_PLANES 0

/**
 * Kind: codes a byte each, `uint8_t`; signed ones in two's complement of eight bits.
 */
#define QC_KIND_BYTES 1

/**
 * Kind: `float`.
 */
#define QC_KIND_F32 2

/**
 * Kind: the sums of a layer, `int32_t`, which no node reads.
 */
#define QC_KIND_I32 3

/**
 * Kind: floats of 16 bits in IEEE 754's binary16, `uint16_t`.
 */
#define QC_KIND_F16 4

/**
 * Kind: the upper halves of floats, `uint16_t`.
 */
#define QC_KIND_BF16 5

/**
 * Weights: sign(w) mean |w|.
 */
#define QC_BINARY_MEAN 1

/**
 * Weights: sign(w) median |w|.
 */
#define QC_BINARY_MEDIAN 2

/**
 * Weights: sign(w) `scale`.
 */
#define QC_BINARY_PLAIN 3

/**
 * Weights: ternary, beyond 0.7 mean |w|. `variant` 1 divides the scale by the number of all weights.
 */
#define QC_TERNARY_TWN 4

/**
 * Weights: the nearest ternary ones.
 */
#define QC_TERNARY_EXACT 5

/**
 * Weights: clamp(round(w / (mean |w| + 1e-5)), -1, 1) mean |w|.
 */
#define QC_TERNARY_ABS_MEAN 6

/**
 * Weights: 0, +-1 .. +-(2^(bits-1) - 1) times a fitted scale; `sweeps` rounds of Lloyd's alternation.
 */
#define QC_UNIFORM_SYM 7

/**
 * Weights: the nearest multiple of `delta`, ties away from 0.
 */
#define QC_GRID_DET 8

/**
 * Weights: one of the two multiples of `delta` beside, by a draw, so that the mean is the weight.
 */
#define QC_GRID_STOCH 9

/**
 * Weights: +-`scale`, plus with the probability (w / scale + 1) / 2 clamped to 0 .. 1.
 */
#define QC_STOCH_BINARY 10

/**
 * Weights: sign(w) sum D |w| / sum D.
 */
#define QC_LOSS_AWARE_BINARY 11

/**
 * Weights: ternary in the metric. `variant` 0 exact, 1 ten rounds at most, 2 a scale for each sign.
 */
#define QC_LOSS_AWARE_TERNARY 12

/**
 * Weights: levels k / n, |k| <= n = 2^(bits-1) - 1, times a scale that is fitted in the metric.
 */
#define QC_LOSS_AWARE_LINEAR 13

/**
 * Weights: levels 0 and +-2^-j, j < 2^(bits-1) - 1, times a scale that is fitted in the metric; 2 to 4 bits.
 */
#define QC_LOSS_AWARE_LOG 14

/**
 * Weights: LSQ, codes -2^(bits-1) .. 2^(bits-1) - 1 times the learned step `first_scale`.
 */
#define QC_LSQ_WEIGHT 15

/**
 * Weights: DoReFa of `bits` bits.
 */
#define QC_DOREFA 16

/**
 * By x: 1 for 0 < x <= q alpha, else 0; q = 2^bits - 1.
 */
#define QC_BY_CLIPPED_RELU 1

/**
 * By x: 1 for x > 0, else 0.
 */
#define QC_BY_RELU 2

/**
 * By x: 1.
 */
#define QC_BY_IDENTITY 3

/**
 * By x: 1 for 0 < x <= q alpha, 1 / (x / alpha - q + 1) above.
 */
#define QC_BY_LOG_TAILED 4

/**
 * By x: exp(-x / (q alpha)) for x > 0, else 0.
 */
#define QC_BY_REVERSE_EXP 5

/**
 * By x: 1 for |x| <= 1, else 0; for the sign.
 */
#define QC_BY_HARD_TANH 6

/**
 * By x: 2 + 2x for -1 <= x < 0, 2 - 2x for 0 <= x < 1, else 0; for the sign.
 */
#define QC_BY_PIECEWISE_POLY 7

/**
 * By alpha, for 0 < x <= q alpha: 2^(bits-1). All kinds give 0 for x <= 0 and q for x > q alpha.
 */
#define QC_ALPHA_THREE 1

/**
 * By alpha, for 0 < x <= q alpha: the code of x.
 */
#define QC_ALPHA_AE 2

/**
 * By alpha, for 0 < x <= q alpha: 0.
 */
#define QC_ALPHA_TWO 3

/**
 * By alpha, for 0 < x <= q alpha: 1.
 */
#define QC_ALPHA_MIN 4

/**
 * By alpha, for 0 < x <= q alpha: the code of x minus x / alpha.
 */
#define QC_ALPHA_LSQ 5

/**
 * By the latent weights: 1.
 */
#define QC_WEIGHT_IDENTITY 1

/**
 * By the latent weights: 1 for |w_f| <= 1, else 0.
 */
#define QC_WEIGHT_CLIP1 2

/**
 * Rounding, of `qc_round` alone: to one of the two multiples beside, by a draw, so that the mean is the value.
 */
#define QC_STOCHASTIC 3

/**
 * Phase: weights and activations are floats.
 */
#define QC_PHASE_FLOAT 0

/**
 * Phase: weights and activations are what the recipe says.
 */
#define QC_PHASE_QUANTIZED 1

/**
 * Half of the digits: those to train on.
 */
#define QC_DIGITS_TRAIN 0

/**
 * Half of the digits: those to measure with, which share no draw with the others.
 */
#define QC_DIGITS_TEST 1

/**
 * A plan for average pooling: per channel the mean of a window. Immutable.
 */
typedef struct qc_average_pool qc_average_pool;

/**
 * A plan for the convolution of images `[images, H, W, C]` by filters `[O, KH, KW, C / groups]` to
 * `[images, OH, OW, O]`: filters prepacked, kernel chosen. Immutable.
 */
typedef struct qc_conv2d qc_conv2d;

/**
 * A plan for the convolution of float images `[images, H, W, C]` by packed filters `[O, KH, KW, C / groups]`, which stay
 * packed, to `[images, OH, OW, O]`. Immutable.
 */
typedef struct qc_float_conv2d qc_float_conv2d;

/**
 * Counts how often each weight oscillates, and freezes those that do too often.
 */
typedef struct qc_freezer qc_freezer;

/**
 * A plan for activations `[M, K]` times weights `[N, K]`: weights prepacked, kernel chosen. Immutable.
 */
typedef struct qc_gemm qc_gemm;

/**
 * A plan for max-pooling: per channel the greatest element of a window. Immutable.
 */
typedef struct qc_max_pool qc_max_pool;

/**
 * A packed net, ready to run. Immutable.
 */
typedef struct qc_model qc_model;

/**
 * A model that is being built: a graph of nodes without cycles, from the images to the outputs.
 *
 * Each `qc_model_builder_...` that makes a node checks everything about it, copies what it is given, and numbers the value
 * that the node makes, for later nodes to read: 0 is the images, and each node has the next number. An error names the
 * node and the argument, and leaves the builder as it was. One call at a time may use it.
 */
typedef struct qc_model_builder qc_model_builder;

/**
 * Worker threads of the library's own. Many threads may give work to one pool at once.
 */
typedef struct qc_pool qc_pool;

/**
 * A net in training, by a recipe: a float phase, then a quantized phase that starts from its weights, each of epochs, each
 * of steps.
 *
 * Images are bytes, NHWC; the caller has them and hands them in: a batch at a time to `qc_trainer_step`, with
 * `qc_trainer_end_epoch` behind the last batch of an epoch, or all of them to `qc_trainer_epoch`, which draws order,
 * shifts and mirrors as the recipe says and is what the tool `qcore train` does. One call at a time may use it.
 *
 * On one machine the same calls give the same bits, for every number of threads and every ISA that `QCORE_ISA` may name.
 * Another machine may give others: products of floats (of gradients, of the float phase) are summed in the order that suits
 * its CPU, whatever `QCORE_ISA` says, and training goes on from there. Products of codes are the same everywhere.
 */
typedef struct qc_trainer qc_trainer;

/**
 * A plan for float activations `[M, K]` times packed weights `[N, K]`, which stay packed. Immutable.
 */
typedef struct qc_weight_only qc_weight_only;

/**
 * The memory of one run at a time of one model.
 */
typedef struct qc_workspace qc_workspace;

/**
 * An ISA, as `qc_isa_get` tells it. Set `struct_size` before the call.
 */
typedef struct qc_isa_info {
  /**
   * `sizeof(qc_isa_info)`.
   */
  size_t struct_size;
  /**
   * Its name, as `QCORE_ISA` and `qc_gemm_options` take it; lives as long as the library.
   */
  const char *name;
  /**
   * 1 if this build holds its kernels, else 0.
   */
  int32_t compiled;
  /**
   * 1 if this machine can run them, else 0.
   */
  int32_t available;
  /**
   * 1 if it is the one used where none is asked for: what `QCORE_ISA` says, or else the best.
   */
  int32_t chosen;
  /**
   * 0.
   */
  int32_t reserved;
} qc_isa_info;

/**
 * How floats become codes. Fill it with `qc_quantizer_init` first.
 */
typedef struct qc_quantizer {
  /**
   * `sizeof(qc_quantizer)`.
   */
  size_t struct_size;
  /**
   * `QC_SIGN`, which takes no notice of the rest, `QC_RELU`, `QC_SYMMETRIC`, `QC_AFFINE` or
   * `QC_AFFINE_SIGNED`. Default: `QC_SIGN`.
   */
  int32_t kind;
  /**
   * Bits of a code, 1 to 8. The encoding is then QC_U1 + bits - 1 or, if signed, QC_S1 + bits - 1. Default: 1.
   */
  int32_t bits;
  /**
   * Step between levels, 1e-30 to 1e30. Default: 1.
   */
  float alpha;
  /**
   * `QC_CEIL` or `QC_NEAREST`, of `QC_RELU` alone. Default: `QC_CEIL`.
   */
  int32_t rounding;
  /**
   * The integer that stands for 0, of the affine kinds alone. Default: 0.
   */
  int32_t zero_point;
  /**
   * Zero.
   */
  int32_t reserved;
} qc_quantizer;

/**
 * What a plan is made of. Fill it with `qc_gemm_options_init` first.
 */
typedef struct qc_gemm_options {
  /**
   * `sizeof(qc_gemm_options)`.
   */
  size_t struct_size;
  /**
   * Encoding of the weights. Default: `QC_BIPOLAR`.
   */
  int32_t weight_encoding;
  /**
   * Encoding of the activations: `QC_BIPOLAR`, `QC_U1` .. `QC_U8` or `QC_S1` .. `QC_S8`. Default: `QC_BIPOLAR`.
   */
  int32_t activation_encoding;
  /**
   * Output channels, N. Default: 0.
   */
  size_t n;
  /**
   * Inputs of a channel, K; `qc_gemm_max_k` tells how many there may be. Default: 0.
   */
  size_t k;
  /**
   * Packed weights `[N, K]`; not needed any more once the plan is made. Default: NULL.
   */
  const uint32_t *weights;
  /**
   * Number of words at `weights`, what `qc_packed_words` says. Default: 0.
   */
  size_t weight_words;
  /**
   * N factors for `scale[n] * sum + bias[n]` in f32, or NULL for a plan that gives integers. Default: NULL.
   */
  const float *scale;
  /**
   * N summands; NULL if and only if `scale` is. Default: NULL.
   */
  const float *bias;
  /**
   * Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
   */
  const char *isa;
  /**
   * Scales in place of `scale`: of the type `scale_type`, as many as `scale_granularity` says. `bias` may then be
   * NULL for none. Default: NULL.
   */
  const void *scales;
  /**
   * Number of elements at `scales`. Default: 0.
   */
  size_t n_scales;
  /**
   * Columns of a group for `QC_PER_GROUP`: a multiple of 32 from 32 to 256. Default: 0.
   */
  size_t group;
  /**
   * `QC_PER_TENSOR`, `QC_PER_CHANNEL` or `QC_PER_GROUP`. With a scale per group a plan gives floats only, and K
   * has no bound. Default: `QC_PER_TENSOR`.
   */
  int32_t scale_granularity;
  /**
   * `QC_F32`, `QC_F16` or `QC_BF16`. Default: `QC_F32`.
   */
  int32_t scale_type;
  /**
   * The integer of activations that stands for 0, one of their encoding: sums are those of
   * weight x (activation - zero_point). Default: 0.
   */
  int32_t zero_point;
  /**
   * 0.
   */
  int32_t reserved;
} qc_gemm_options;

/**
 * What a plan is made of. Fill it with `qc_weight_only_options_init` first.
 */
typedef struct qc_weight_only_options {
  /**
   * `sizeof(qc_weight_only_options)`.
   */
  size_t struct_size;
  /**
   * Encoding of the weights. Default: `QC_BIPOLAR`.
   */
  int32_t weight_encoding;
  /**
   * Type of the scales: `QC_F32`, `QC_F16` or `QC_BF16`. Default: `QC_F32`.
   */
  int32_t scale_type;
  /**
   * Output channels, N. Default: 0.
   */
  size_t n;
  /**
   * Inputs of a channel, K. Default: 0.
   */
  size_t k;
  /**
   * Packed weights `[N, K]`; not needed any more once the plan is made. Default: NULL.
   */
  const uint32_t *weights;
  /**
   * Number of words at `weights`, what `qc_packed_words` says. Default: 0.
   */
  size_t weight_words;
  /**
   * Scales of the type `scale_type`, as many as `scale_granularity` says. Default: NULL.
   */
  const void *scales;
  /**
   * Number of elements at `scales`. Default: 0.
   */
  size_t n_scales;
  /**
   * Columns of a group for `QC_PER_GROUP`: a multiple of 32 from 32 to 256. Default: 0.
   */
  size_t group;
  /**
   * N summands, or NULL for none. Default: NULL.
   */
  const float *bias;
  /**
   * Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
   */
  const char *isa;
  /**
   * `QC_PER_TENSOR`, `QC_PER_CHANNEL` or `QC_PER_GROUP`. Default: `QC_PER_TENSOR`.
   */
  int32_t scale_granularity;
  /**
   * 0.
   */
  int32_t reserved;
} qc_weight_only_options;

/**
 * What follows the sums of a layer of N channels. Fill it with `qc_finish_init` first.
 *
 * For channel n, in f32, each operation rounded once and none contracted, in this order: y = scale\[n\] * sum +
 * bias\[n\]; y + residual, if it comes before; function(y); y + residual, if it comes after; then the output. Packed
 * codes of few bits come from integer thresholds where that gives the same codes.
 */
typedef struct qc_finish {
  /**
   * `sizeof(qc_finish)`.
   */
  size_t struct_size;
  /**
   * `QC_OUT_I32`, which asks for nothing else, or another `QC_OUT_...`. Default: `QC_OUT_I32`.
   */
  int32_t output;
  /**
   * `QC_FUNCTION_...`. Default: `QC_FUNCTION_IDENTITY`.
   */
  int32_t function;
  /**
   * `QC_RESIDUAL_...`. Default: `QC_RESIDUAL_NONE`.
   */
  int32_t residual;
  /**
   * Encoding of the codes that `thresholds` give: `QC_BIPOLAR` or `QC_U1` .. `QC_U8`. Default: `QC_BIPOLAR`.
   */
  int32_t threshold_encoding;
  /**
   * N factors. Default: NULL.
   */
  const float *scale;
  /**
   * N summands. Default: NULL.
   */
  const float *bias;
  /**
   * N slopes, of `QC_FUNCTION_PRELU` and `QC_FUNCTION_RPRELU`. Default: NULL.
   */
  const float *slope;
  /**
   * N shifts of the input, of `QC_FUNCTION_RPRELU`. Default: NULL.
   */
  const float *before;
  /**
   * N shifts of the output, of `QC_FUNCTION_RPRELU`. Default: NULL.
   */
  const float *after;
  /**
   * The least result of `QC_FUNCTION_CLAMP`. Default: 0.
   */
  float low;
  /**
   * The greatest result of `QC_FUNCTION_CLAMP`. Default: 0.
   */
  float high;
  /**
   * For `QC_OUT_CODES` any, signed ones too; for `QC_OUT_BYTES` any but `QC_SIGN`. Default: NULL.
   */
  const struct qc_quantizer *quantizer;
  /**
   * For `QC_OUT_CODES` in place of all floats and the quantizer: `[levels, N]` integers; the code is the number of levels
   * with sign\[n\] * sum > threshold. There is a level for each code but the first. Default: NULL.
   */
  const int32_t *thresholds;
  /**
   * N times +1 or -1, with `thresholds`. Default: NULL.
   */
  const int32_t *sign;
} qc_finish;

/**
 * A residual: as many pixels as the output has, N channels each; one of the five pointers is not NULL. Fill it with
 * `qc_residual_init` first.
 */
typedef struct qc_residual {
  /**
   * `sizeof(qc_residual)`.
   */
  size_t struct_size;
  /**
   * Floats. Default: NULL.
   */
  const float *floats;
  /**
   * Packed codes. Default: NULL.
   */
  const uint32_t *words;
  /**
   * Codes a byte each, not bipolar. Default: NULL.
   */
  const uint8_t *bytes;
  /**
   * Number of elements behind that pointer. Default: 0.
   */
  size_t len;
  /**
   * Encoding of the codes. Default: `QC_BIPOLAR`.
   */
  int32_t encoding;
  /**
   * The float that the integer 1 of a code stands for. Default: 1.
   */
  float scale;
  /**
   * IEEE 754 halves as their 16 bits. Default: NULL.
   */
  const uint16_t *f16;
  /**
   * bfloat16 as their 16 bits. Default: NULL.
   */
  const uint16_t *bf16;
} qc_residual;

/**
 * What a plan is made of. Fill it with `qc_conv2d_options_init` first. Pairs are vertical, horizontal.
 *
 * Images are a matrix of codes: a row a pixel, row by row of an image, image after image; a column a channel. With the
 * defaults for everything between `channels` and `filters` it is a linear layer: images are rows of K = C codes, and N = O.
 */
typedef struct qc_conv2d_options {
  /**
   * `sizeof(qc_conv2d_options)`.
   */
  size_t struct_size;
  /**
   * Encoding of the filters. Default: `QC_BIPOLAR`.
   */
  int32_t weight_encoding;
  /**
   * Encoding of the images: `QC_BIPOLAR`, `QC_U1` .. `QC_U8` or `QC_S1` .. `QC_S8`. Default: `QC_BIPOLAR`.
   */
  int32_t activation_encoding;
  /**
   * Channels of the output, O. Default: 0.
   */
  size_t output_channels;
  /**
   * Channels of the images, C. Default: 0.
   */
  size_t channels;
  /**
   * Rows of an image, H. Default: 1.
   */
  size_t height;
  /**
   * Columns of an image, W. Default: 1.
   */
  size_t width;
  /**
   * Rows and columns of a filter, KH and KW. Default: 1.
   */
  size_t kernel[2];
  /**
   * Input pixels from one output pixel to the next. Default: 1.
   */
  size_t stride[2];
  /**
   * Input pixels from one tap to the next. Default: 1.
   */
  size_t dilation[2];
  /**
   * Rows above, columns to the left, rows below, columns to the right. Default: 0.
   */
  size_t padding[4];
  /**
   * Groups of channels: group g sees input channels g C / groups and up, and makes output channels g O / groups and
   * up. Default: 1.
   */
  size_t groups;
  /**
   * Rows and columns that a transposed convolution adds below and to the right. Default: 0.
   */
  size_t output_padding[2];
  /**
   * `QC_PAD_...`. Default: `QC_PAD_ZERO`.
   */
  int32_t pad;
  /**
   * 1 for a transposed convolution, whose pad is zero, else 0. Default: 0.
   */
  int32_t transposed;
  /**
   * Packed filters, O rows of KH x KW x C / groups columns; not needed any more once the plan is made. Default: NULL.
   */
  const uint32_t *filters;
  /**
   * Number of words at `filters`, what `qc_packed_words` says. Default: 0.
   */
  size_t filter_words;
  /**
   * What follows the sums, or NULL for the sums themselves. Default: NULL.
   */
  const struct qc_finish *finish;
  /**
   * Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
   */
  const char *isa;
  /**
   * The integer of images that stands for 0, one of their encoding: sums are those of filter x (image - zero_point), and
   * the zero of a pad is the zero point. Default: 0.
   */
  int32_t zero_point;
  /**
   * 0.
   */
  int32_t reserved;
} qc_conv2d_options;

/**
 * What a plan is made of. Fill it with `qc_float_conv2d_options_init` first. Pairs are vertical, horizontal.
 */
typedef struct qc_float_conv2d_options {
  /**
   * `sizeof(qc_float_conv2d_options)`.
   */
  size_t struct_size;
  /**
   * The filters with their scales and bias, and the ISA: N is O, K is KH x KW x C / groups. Scales are not per group of K
   * for a transposed convolution. Default: NULL.
   */
  const struct qc_weight_only_options *filters;
  /**
   * What follows the floats, which it takes in place of sums, but neither `QC_OUT_I32` nor thresholds; or NULL for the
   * floats themselves. Default: NULL.
   */
  const struct qc_finish *finish;
  /**
   * Channels of the images, C. Default: 0.
   */
  size_t channels;
  /**
   * Rows of an image, H. Default: 1.
   */
  size_t height;
  /**
   * Columns of an image, W. Default: 1.
   */
  size_t width;
  /**
   * Rows and columns of a filter, KH and KW. Default: 1.
   */
  size_t kernel[2];
  /**
   * Input pixels from one output pixel to the next. Default: 1.
   */
  size_t stride[2];
  /**
   * Input pixels from one tap to the next. Default: 1.
   */
  size_t dilation[2];
  /**
   * Rows above, columns to the left, rows below, columns to the right; the float 0 stands there. Default: 0.
   */
  size_t padding[4];
  /**
   * Groups of channels: group g sees input channels g C / groups and up, and makes output channels g O / groups and
   * up. Default: 1.
   */
  size_t groups;
  /**
   * Rows and columns that a transposed convolution adds below and to the right. Default: 0.
   */
  size_t output_padding[2];
  /**
   * 1 for a transposed convolution, else 0. Default: 0.
   */
  int32_t transposed;
  /**
   * 0.
   */
  int32_t reserved;
} qc_float_conv2d_options;

/**
 * What windows a pooling sees. Fill it with `qc_window_init` first. Pairs are vertical, horizontal.
 */
typedef struct qc_window {
  /**
   * `sizeof(qc_window)`.
   */
  size_t struct_size;
  /**
   * Encoding of images of codes, not ternary; for floats it does not count. Default: `QC_BIPOLAR`.
   */
  int32_t encoding;
  /**
   * 0.
   */
  int32_t reserved;
  /**
   * Channels of the images, C. Default: 0.
   */
  size_t channels;
  /**
   * Rows of an image, H. Default: 1.
   */
  size_t height;
  /**
   * Columns of an image, W. Default: 1.
   */
  size_t width;
  /**
   * Rows and columns of a window; H and W pool a whole image into a pixel. Default: 1.
   */
  size_t kernel[2];
  /**
   * Input pixels from one output pixel to the next. Default: 1.
   */
  size_t stride[2];
  /**
   * Input pixels from one pixel of a window to the next. Default: 1.
   */
  size_t dilation[2];
  /**
   * Rows above, columns to the left, rows below, columns to the right, which are no part of any window. Default: 0.
   */
  size_t padding[4];
  /**
   * Name of the ISA to run on, or NULL for what `QCORE_ISA` says, or else the best. Default: NULL.
   */
  const char *isa;
} qc_window;

/**
 * What a model takes and gives. Set `struct_size` before the call.
 */
typedef struct qc_model_info {
  /**
   * `sizeof(qc_model_info)`.
   */
  size_t struct_size;
  /**
   * Rows of an image.
   */
  size_t height;
  /**
   * Columns of an image.
   */
  size_t width;
  /**
   * Channels of a pixel.
   */
  size_t channels;
  /**
   * Bits of a code of the image, 1 to 8; a code is a byte. 32 or 16 for images of floats.
   */
  size_t bits;
  /**
   * Elements of an image, height x width x channels.
   */
  size_t inputs;
  /**
   * Elements of the first output of an image: the logits, where there is no other.
   */
  size_t outputs;
  /**
   * Outputs that the model has.
   */
  size_t n_outputs;
  /**
   * Nodes, the images among them.
   */
  size_t nodes;
  /**
   * Bytes of all layers packed.
   */
  size_t packed_bytes;
  /**
   * Bytes that the same layers take in f32.
   */
  size_t float_bytes;
  /**
   * Name of the ISA it runs on; lives as long as the library.
   */
  const char *isa;
} qc_model_info;

/**
 * The type of a value of a model: images, NHWC, as many as a run has. Fill it with `qc_value_type_init` first.
 */
typedef struct qc_value_type {
  /**
   * `sizeof(qc_value_type)`.
   */
  size_t struct_size;
  /**
   * Rows of an image, H. Default: 1.
   */
  size_t height;
  /**
   * Columns of an image, W. Default: 1.
   */
  size_t width;
  /**
   * Channels of a pixel, C. Default: 1.
   */
  size_t channels;
  /**
   * `QC_KIND_...`. Default: `QC_KIND_BYTES`.
   */
  int32_t kind;
  /**
   * Encoding of codes; 0 for the other kinds. Default: `QC_U8`.
   */
  int32_t encoding;
} qc_value_type;

/**
 * The memory that runs take, in bytes. Set `struct_size` before the call.
 */
typedef struct qc_memory {
  /**
   * `sizeof(qc_memory)`.
   */
  size_t struct_size;
  /**
   * Values at most at one time, of all threads' images; the images themselves are the caller's.
   */
  size_t peak_bytes;
  /**
   * Working space of the neediest node, on all threads.
   */
  size_t scratch_bytes;
  /**
   * Both, as `qc_workspace_new` takes them: the sizes are rounded up to cache lines.
   */
  size_t workspace_bytes;
  /**
   * Packed weights, thresholds, scales and the like.
   */
  size_t weight_bytes;
} qc_memory;

/**
 * Where an output goes.
 */
typedef struct qc_output {
  /**
   * Elements of the output's kind, images x H x W x C; for packed codes the words of images x H x W rows of C columns.
   */
  void *data;
  /**
   * Number of elements, or words, at `data`.
   */
  size_t len;
} qc_output;

/**
 * What a node is. Set `struct_size` before the call.
 */
typedef struct qc_node_info {
  /**
   * `sizeof(qc_node_info)`.
   */
  size_t struct_size;
  /**
   * Bytes of packed weights, thresholds, scales and the like.
   */
  size_t packed_bytes;
  /**
   * Bytes that the same node takes in f32.
   */
  size_t float_bytes;
  /**
   * Multiply-accumulates for an image.
   */
  size_t macs;
} qc_node_info;

/**
 * How weights are projected. Fill it with `qc_weight_quantizer_init` or `qc_weight_quantizer_parse` first.
 */
typedef struct qc_weight_quantizer {
  /**
   * `sizeof(qc_weight_quantizer)`.
   */
  size_t struct_size;
  /**
   * `QC_BINARY_MEAN` .. `QC_DOREFA`. Default: `QC_BINARY_MEAN`.
   */
  int32_t kind;
  /**
   * Bits, of the kinds that have them. Default: 4.
   */
  int32_t bits;
  /**
   * 1 for a scale a row, 0 for one scale: of the kinds up to `QC_UNIFORM_SYM` but `QC_BINARY_PLAIN`, and of
   * `QC_LOSS_AWARE_BINARY`. Default: 0.
   */
  int32_t per_channel;
  /**
   * Of `QC_UNIFORM_SYM`. Default: 0.
   */
  int32_t sweeps;
  /**
   * Of `QC_TERNARY_TWN` and `QC_LOSS_AWARE_TERNARY`. Default: 0.
   */
  int32_t variant;
  /**
   * 1 relaxes what is projected: values are (w + lambda Q(w)) / (1 + lambda). Default: 0.
   */
  int32_t relaxed;
  /**
   * Above 0. Default: 1.
   */
  float scale;
  /**
   * Above 0. Default: 1.
   */
  float delta;
  /**
   * 0 or more. Default: 1.
   */
  float lambda;
  /**
   * LSQ's step, or the scale from which `QC_UNIFORM_SYM` and the searches that alternate begin; 0 makes one from
   * the weights. Default: 0.
   */
  float first_scale;
} qc_weight_quantizer;

/**
 * The numbers of Adam. Fill it with `qc_adam_init` first.
 */
typedef struct qc_adam {
  /**
   * `sizeof(qc_adam)`.
   */
  size_t struct_size;
  /**
   * Learning rate, above 0. Default: 0.001.
   */
  float lr;
  /**
   * Decay of the first moment, 0 to below 1; 0 for the printed form of the loss-aware rules. Default: 0.9.
   */
  float beta1;
  /**
   * Decay of the second moment, 0 to below 1. Default: 0.999.
   */
  float beta2;
  /**
   * Above 0. Default: 1e-8.
   */
  float eps;
  /**
   * Added to the gradient times the value, 0 or more. Default: 0.
   */
  float weight_decay;
  /**
   * Zero.
   */
  int32_t reserved;
} qc_adam;

/**
 * What a run is for. Fill it with `qc_trainer_options_init` first; `images` has no default.
 */
typedef struct qc_trainer_options {
  /**
   * `sizeof(qc_trainer_options)`.
   */
  size_t struct_size;
  /**
   * Rows of an image. Default: 28.
   */
  size_t height;
  /**
   * Columns of an image. Default: 28.
   */
  size_t width;
  /**
   * Bytes of a pixel: 1 for gray, 3 for color. Default: 1.
   */
  size_t channels;
  /**
   * Classes, 1 to 256: a label is below. Default: 10.
   */
  size_t classes;
  /**
   * Training images in an epoch, no fewer than the recipe's batch: an epoch has images / batch steps. Default: 0.
   */
  size_t images;
  /**
   * Seed of weights, order, shifts and draws; 0 is the recipe's own. Default: 0.
   */
  uint64_t seed;
} qc_trainer_options;

/**
 * What an epoch did. Set `struct_size` before the call.
 */
typedef struct qc_epoch_report {
  /**
   * `sizeof(qc_epoch_report)`.
   */
  size_t struct_size;
  /**
   * The epoch, from 1, counted through both phases.
   */
  size_t epoch;
  /**
   * Epochs of both phases.
   */
  size_t epochs;
  /**
   * Steps that it had.
   */
  size_t steps;
  /**
   * `QC_PHASE_...`
   */
  int32_t phase;
  /**
   * Learning rate of its first step.
   */
  float lr;
  /**
   * Mean loss over the batches, as they were met.
   */
  float loss;
  /**
   * Share of the images that were right, as they were met, 0 to 1.
   */
  float accuracy;
  /**
   * Share of the weights whose code changed, in the mean over the steps; 0 in the float phase.
   */
  float flip_ratio;
  /**
   * 1 if the recipe has more epochs, else 0.
   */
  int32_t more;
} qc_epoch_report;

/**
 * What a run is and how far it has come. Set `struct_size` before the call.
 */
typedef struct qc_trainer_info {
  /**
   * `sizeof(qc_trainer_info)`.
   */
  size_t struct_size;
  /**
   * Rows of an image.
   */
  size_t height;
  /**
   * Columns of an image.
   */
  size_t width;
  /**
   * Bytes of a pixel.
   */
  size_t channels;
  /**
   * Classes, the logits of an image.
   */
  size_t classes;
  /**
   * Images in a batch, as the recipe has it.
   */
  size_t batch;
  /**
   * Steps in an epoch.
   */
  size_t steps;
  /**
   * Steps that the epoch that runs has had; 0 between two epochs.
   */
  size_t step;
  /**
   * Epochs that are done, of both phases.
   */
  size_t epoch;
  /**
   * Epochs of the float phase.
   */
  size_t float_epochs;
  /**
   * Epochs of both phases.
   */
  size_t epochs;
  /**
   * Batches that the recipe re-estimates running averages over after the last epoch; 0 is none.
   */
  size_t reestimate;
  /**
   * Weights, of all layers.
   */
  size_t weights;
  /**
   * Numbers that the optimiser moves in this phase: weights, scales and shifts of normalisations, learned steps.
   */
  size_t parameters;
  /**
   * Tensors, the lines of `qc_trainer_describe` but the first.
   */
  size_t tensors;
  /**
   * Name of the ISA it runs on; lives as long as the library.
   */
  const char *isa;
  /**
   * `QC_PHASE_...`, of the net as it is now.
   */
  int32_t phase;
  /**
   * 1 if the net can be frozen now, else 0.
   */
  int32_t packed;
  /**
   * The seed.
   */
  uint64_t seed;
} qc_trainer_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The text of the last error of the calling thread, in UTF-8; empty if there was none.
 *
 * Never NULL. The pointer is valid until the next call of this thread that fails, or until the thread
 * ends. A text is up to 1023 bytes long; more is cut.
 */
const char *qc_last_error(void);

/**
 * Copies the text of the last error of the calling thread, as `snprintf` does.
 *
 * `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
 * `*length` receives the length of the whole text without its zero: the text was cut if that is not
 * below `len`.
 */
int32_t qc_last_error_copy(char *buf, size_t len, size_t *length);

/**
 * The name of a status, such as "QC_OK"; "unknown status" for a number that is none. Never NULL.
 */
const char *qc_status_name(int32_t status);

/**
 * The version of the library that runs, such as "1.2.3". Never NULL.
 */
const char *qc_version(void);

/**
 * The number of ISAs that qcore knows, whether they are here or not.
 */
int32_t qc_isa_count(size_t *count);

/**
 * ISA number `index`, 0 for the worst. Set `info->struct_size` first.
 *
 * None is marked as chosen if `QCORE_ISA` names one that is not here.
 */
int32_t qc_isa_get(size_t index, struct qc_isa_info *info);

/**
 * Starts a pool of `threads` workers, 1 to 1024; 0 asks for one a processor.
 *
 * Free it with `qc_pool_free`.
 */
int32_t qc_pool_new(size_t threads, struct qc_pool **pool);

/**
 * The number of workers.
 */
int32_t qc_pool_threads(const struct qc_pool *pool, size_t *threads);

/**
 * Ends a pool and its workers; NULL does nothing.
 */
void qc_pool_free(struct qc_pool *pool);

/**
 * The number of words of a packed matrix: rows x planes x ceil(cols / 32).
 *
 * Word ((row * planes) + plane) * ceil(cols / 32) + k / 32 has column k at bit k % 32. Bits behind the
 * last column are zero. A word is four bytes, least significant first in files.
 */
int32_t qc_packed_words(int32_t encoding,
                        size_t rows,
                        size_t cols,
                        size_t *words);

/**
 * Packs `values`, `[rows, cols]` row-major, into `words`.
 *
 * `n_words` is what `qc_packed_words` says. An integer that the encoding lacks is an error.
 */
int32_t qc_pack(int32_t encoding,
                size_t rows,
                size_t cols,
                const int32_t *values,
                uint32_t *words,
                size_t n_words);

/**
 * Turns packed words back into integers, `[rows, cols]` row-major.
 *
 * `n_words` is what `qc_packed_words` says, `n_values` is rows x cols. Words that are not in the packed
 * form are an error: a bit behind the last column, a ternary code that no integer has.
 */
int32_t qc_unpack(int32_t encoding,
                  size_t rows,
                  size_t cols,
                  const uint32_t *words,
                  size_t n_words,
                  int32_t *values,
                  size_t n_values);

/**
 * Fills `*quantizer` with the defaults. `struct_size` is `sizeof *quantizer`.
 */
int32_t qc_quantizer_init(size_t struct_size, struct qc_quantizer *quantizer);

/**
 * Quantizes `x`, `[rows, cols]` row-major, into packed `words`.
 *
 * `n_words` is what `qc_packed_words` says for the quantizer's encoding. Rows are shared out to the threads of `pool`.
 */
int32_t qc_quantize_f32(const float *x,
                        size_t rows,
                        size_t cols,
                        const struct qc_quantizer *quantizer,
                        uint32_t *words,
                        size_t n_words,
                        const struct qc_pool *pool);

/**
 * As `qc_quantize_f32`, for IEEE 754 halves given as their 16 bits.
 */
int32_t qc_quantize_f16(const uint16_t *x,
                        size_t rows,
                        size_t cols,
                        const struct qc_quantizer *quantizer,
                        uint32_t *words,
                        size_t n_words,
                        const struct qc_pool *pool);

/**
 * As `qc_quantize_f32`, for bfloat16 given as their 16 bits.
 */
int32_t qc_quantize_bf16(const uint16_t *x,
                         size_t rows,
                         size_t cols,
                         const struct qc_quantizer *quantizer,
                         uint32_t *words,
                         size_t n_words,
                         const struct qc_pool *pool);

/**
 * Quantizes `x`, `[rows, cols]` row-major, into a byte each: unsigned codes as they are, signed ones as two's
 * complement of eight bits.
 *
 * `n_bytes` is rows x cols. `QC_SIGN` is an error.
 */
int32_t qc_quantize_bytes_f32(const float *x,
                              size_t rows,
                              size_t cols,
                              const struct qc_quantizer *quantizer,
                              uint8_t *bytes,
                              size_t n_bytes,
                              const struct qc_pool *pool);

/**
 * As `qc_quantize_bytes_f32`, for IEEE 754 halves given as their 16 bits.
 */
int32_t qc_quantize_bytes_f16(const uint16_t *x,
                              size_t rows,
                              size_t cols,
                              const struct qc_quantizer *quantizer,
                              uint8_t *bytes,
                              size_t n_bytes,
                              const struct qc_pool *pool);

/**
 * As `qc_quantize_bytes_f32`, for bfloat16 given as their 16 bits.
 */
int32_t qc_quantize_bytes_bf16(const uint16_t *x,
                               size_t rows,
                               size_t cols,
                               const struct qc_quantizer *quantizer,
                               uint8_t *bytes,
                               size_t n_bytes,
                               const struct qc_pool *pool);

/**
 * Quantizes each row of `x`, `[rows, cols]` row-major, by a scale made of the row, into packed `words`.
 *
 * `encoding` is signed for `QC_SYMMETRIC` (2 to 8 bits), signed or unsigned for `QC_AFFINE`; `n_words` is what
 * `qc_packed_words` says for it. With lo and hi the least and greatest of 0 and the finite values of a row, the
 * scale is max(-lo, hi) / (2^(bits-1) - 1) or (hi - lo) / (2^bits - 1), and never below the smallest normal
 * float: that is what a row of zeros gets. The zero point of the affine kind is the integer nearest to where 0
 * falls. Infinities get the outermost codes, NaN that of 0. `scales` takes `rows` floats, `zero_points` `rows`
 * integers, or none if it is NULL, which `QC_AFFINE` does not allow.
 */
int32_t qc_quantize_rows_f32(const float *x,
                             size_t rows,
                             size_t cols,
                             int32_t kind,
                             int32_t encoding,
                             uint32_t *words,
                             size_t n_words,
                             float *scales,
                             int32_t *zero_points,
                             const struct qc_pool *pool);

/**
 * As `qc_quantize_rows_f32`, for IEEE 754 halves given as their 16 bits.
 */
int32_t qc_quantize_rows_f16(const uint16_t *x,
                             size_t rows,
                             size_t cols,
                             int32_t kind,
                             int32_t encoding,
                             uint32_t *words,
                             size_t n_words,
                             float *scales,
                             int32_t *zero_points,
                             const struct qc_pool *pool);

/**
 * As `qc_quantize_rows_f32`, for bfloat16 given as their 16 bits.
 */
int32_t qc_quantize_rows_bf16(const uint16_t *x,
                              size_t rows,
                              size_t cols,
                              int32_t kind,
                              int32_t encoding,
                              uint32_t *words,
                              size_t n_words,
                              float *scales,
                              int32_t *zero_points,
                              const struct qc_pool *pool);

/**
 * As `qc_quantize_rows_f32`, into a byte each: unsigned codes as they are, signed ones as two's complement of
 * eight bits. `n_bytes` is rows x cols.
 */
int32_t qc_quantize_rows_bytes_f32(const float *x,
                                   size_t rows,
                                   size_t cols,
                                   int32_t kind,
                                   int32_t encoding,
                                   uint8_t *bytes,
                                   size_t n_bytes,
                                   float *scales,
                                   int32_t *zero_points,
                                   const struct qc_pool *pool);

/**
 * As `qc_quantize_rows_bytes_f32`, for IEEE 754 halves given as their 16 bits.
 */
int32_t qc_quantize_rows_bytes_f16(const uint16_t *x,
                                   size_t rows,
                                   size_t cols,
                                   int32_t kind,
                                   int32_t encoding,
                                   uint8_t *bytes,
                                   size_t n_bytes,
                                   float *scales,
                                   int32_t *zero_points,
                                   const struct qc_pool *pool);

/**
 * As `qc_quantize_rows_bytes_f32`, for bfloat16 given as their 16 bits.
 */
int32_t qc_quantize_rows_bytes_bf16(const uint16_t *x,
                                    size_t rows,
                                    size_t cols,
                                    int32_t kind,
                                    int32_t encoding,
                                    uint8_t *bytes,
                                    size_t n_bytes,
                                    float *scales,
                                    int32_t *zero_points,
                                    const struct qc_pool *pool);

/**
 * Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
 */
int32_t qc_gemm_options_init(size_t struct_size, struct qc_gemm_options *options);

/**
 * The largest K for which weights times activations of these encodings cannot overflow an `int32_t` sum.
 */
int32_t qc_gemm_max_k(int32_t weight_encoding,
                      int32_t activation_encoding,
                      size_t *k);

/**
 * As `qc_gemm_max_k`, for activations with a zero point. Plans with a scale per group have no such bound.
 */
int32_t qc_gemm_max_k_affine(int32_t weight_encoding,
                             int32_t activation_encoding,
                             int32_t zero_point,
                             size_t *k);

/**
 * The methods that an ISA has for a product, as a sum of `QC_METHOD_...`; 0 if it is not served or if the ISA is
 * not here.
 *
 * `isa` is the name of one, or NULL for what a plan without a name would use. `scale_granularity` and `group` are
 * as in `qc_gemm_options`; a plan without scales is as one with `QC_PER_TENSOR`. `qc_gemm_describe` tells
 * which of them a plan uses.
 */
int32_t qc_gemm_supports(const char *isa,
                         int32_t weight_encoding,
                         int32_t activation_encoding,
                         int32_t scale_granularity,
                         size_t group,
                         int32_t *methods);

/**
 * Makes a plan. Free it with `qc_gemm_free`.
 */
int32_t qc_gemm_new(const struct qc_gemm_options *options, struct qc_gemm **gemm);

/**
 * The number of `int32_t` of scratch that a run over `rows` rows needs; may be 0.
 */
int32_t qc_gemm_scratch_len(const struct qc_gemm *gemm, size_t rows, size_t *len);

/**
 * The number of `int32_t` of scratch that a run over `rows` rows of bytes needs; may be 0.
 */
int32_t qc_gemm_scratch_len_bytes(const struct qc_gemm *gemm, size_t rows, size_t *len);

/**
 * The integer sums of rows `row_begin` .. `row_end` - 1 of the activations, `[rows, N]` row-major.
 *
 * `words` are all `m` rows of the packed activations. `out_len` is (row_end - row_begin) x N.
 * `scratch` has `qc_gemm_scratch_len` elements or more for that many rows; two runs at once need two.
 * Nothing is allocated.
 */
int32_t qc_gemm_run_i32(const struct qc_gemm *gemm,
                        const uint32_t *words,
                        size_t n_words,
                        size_t m,
                        size_t row_begin,
                        size_t row_end,
                        int32_t *out,
                        size_t out_len,
                        int32_t *scratch,
                        size_t scratch_len,
                        const struct qc_pool *pool);

/**
 * The floats `scale[n] * sum + bias[n]`, for a plan made with `scale` and `bias` or with `scales`; else as
 * `qc_gemm_run_i32`.
 *
 * The sum is converted to the nearest float, the product is rounded, then the sum of that and the bias. With a scale
 * per group the sum of each group is converted, multiplied and rounded, added and rounded in their order, from 0,
 * and then comes the bias.
 */
int32_t qc_gemm_run_f32(const struct qc_gemm *gemm,
                        const uint32_t *words,
                        size_t n_words,
                        size_t m,
                        size_t row_begin,
                        size_t row_end,
                        float *out,
                        size_t out_len,
                        int32_t *scratch,
                        size_t scratch_len,
                        const struct qc_pool *pool);

/**
 * As `qc_gemm_run_i32`, with a byte for each of the `m` x K codes, row-major: unsigned codes as `uint8_t`, signed
 * ones as the bytes of `int8_t`. Not for bipolar activations. `scratch` has `qc_gemm_scratch_len_bytes` elements.
 */
int32_t qc_gemm_run_bytes_i32(const struct qc_gemm *gemm,
                              const uint8_t *bytes,
                              size_t n_bytes,
                              size_t m,
                              size_t row_begin,
                              size_t row_end,
                              int32_t *out,
                              size_t out_len,
                              int32_t *scratch,
                              size_t scratch_len,
                              const struct qc_pool *pool);

/**
 * As `qc_gemm_run_f32`, with a byte for each code as `qc_gemm_run_bytes_i32` takes them.
 */
int32_t qc_gemm_run_bytes_f32(const struct qc_gemm *gemm,
                              const uint8_t *bytes,
                              size_t n_bytes,
                              size_t m,
                              size_t row_begin,
                              size_t row_end,
                              float *out,
                              size_t out_len,
                              int32_t *scratch,
                              size_t scratch_len,
                              const struct qc_pool *pool);

/**
 * As `qc_gemm_run_f32`, for activations that were quantized row by row: `row_scale` has `m` factors and
 * `row_zero_point` `m` integers of their encoding, or is NULL for zeros.
 *
 * A sum is that of weight x (activation - zero point of the row), and `row_scale` is multiplied before the bias is
 * added. Zero points are refused if the plan has one too, or if K exceeds `qc_gemm_max_k_affine`.
 */
int32_t qc_gemm_run_rows_f32(const struct qc_gemm *gemm,
                             const uint32_t *words,
                             size_t n_words,
                             const float *row_scale,
                             const int32_t *row_zero_point,
                             size_t m,
                             size_t row_begin,
                             size_t row_end,
                             float *out,
                             size_t out_len,
                             int32_t *scratch,
                             size_t scratch_len,
                             const struct qc_pool *pool);

/**
 * As `qc_gemm_run_rows_f32`, with a byte for each code as `qc_gemm_run_bytes_i32` takes them.
 */
int32_t qc_gemm_run_rows_bytes_f32(const struct qc_gemm *gemm,
                                   const uint8_t *bytes,
                                   size_t n_bytes,
                                   const float *row_scale,
                                   const int32_t *row_zero_point,
                                   size_t m,
                                   size_t row_begin,
                                   size_t row_end,
                                   float *out,
                                   size_t out_len,
                                   int32_t *scratch,
                                   size_t scratch_len,
                                   const struct qc_pool *pool);

/**
 * Which kernel runs, for people: ISA, method, tile and passes. As `snprintf` does.
 *
 * `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
 * `*length` receives the length of the whole text without its zero: the text was cut if that is not
 * below `len`.
 */
int32_t qc_gemm_describe(const struct qc_gemm *gemm, char *buf, size_t len, size_t *length);

/**
 * Ends a plan; NULL does nothing.
 */
void qc_gemm_free(struct qc_gemm *gemm);

/**
 * Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
 */
int32_t qc_weight_only_options_init(size_t struct_size, struct qc_weight_only_options *options);

/**
 * Makes a plan. Free it with `qc_weight_only_free`.
 */
int32_t qc_weight_only_new(const struct qc_weight_only_options *options,
                           struct qc_weight_only **plan);

/**
 * The number of floats of scratch that a run over `rows` rows needs; may be 0.
 */
int32_t qc_weight_only_scratch_len(const struct qc_weight_only *plan, size_t rows, size_t *len);

/**
 * Rows `row_begin` .. `row_end` - 1 of the activations times the weights, `[rows, N]` row-major.
 *
 * `activations` are all `m` x K floats, `n_activations` of them. `out_len` is (row_end - row_begin) x N.
 * `scratch` has `qc_weight_only_scratch_len` elements or more for that many rows; two runs at once need two.
 * Nothing is allocated. A result is the sum over the groups, ascending, of scale times sum of the group, by one
 * fused multiply-add each, plus the bias. The sum of a group begins at 0. Under weights of one bit (bipolar, u1, s1)
 * p(k) + p(k + 2) is added to it for each fourth k, ascending, under weights of two bits (ternary, u2, s2) p(k) for
 * each second k, where p(k) is `fma(w[k + 1], a[k + 1], w[k] * a[k])` and activations behind K are 0; under all others
 * `w[k] * a[k]` for each k, by fused multiply-adds. So the floats are the same on every ISA, for every number of rows
 * and of threads.
 */
int32_t qc_weight_only_run_f32(const struct qc_weight_only *plan,
                               const float *activations,
                               size_t n_activations,
                               size_t m,
                               size_t row_begin,
                               size_t row_end,
                               float *out,
                               size_t out_len,
                               float *scratch,
                               size_t scratch_len,
                               const struct qc_pool *pool);

/**
 * As `qc_weight_only_run_f32`, with activations that are halves; the results are f32.
 */
int32_t qc_weight_only_run_f16(const struct qc_weight_only *plan,
                               const uint16_t *activations,
                               size_t n_activations,
                               size_t m,
                               size_t row_begin,
                               size_t row_end,
                               float *out,
                               size_t out_len,
                               float *scratch,
                               size_t scratch_len,
                               const struct qc_pool *pool);

/**
 * As `qc_weight_only_run_f32`, with activations that are bfloat16; the results are f32.
 */
int32_t qc_weight_only_run_bf16(const struct qc_weight_only *plan,
                                const uint16_t *activations,
                                size_t n_activations,
                                size_t m,
                                size_t row_begin,
                                size_t row_end,
                                float *out,
                                size_t out_len,
                                float *scratch,
                                size_t scratch_len,
                                const struct qc_pool *pool);

/**
 * Which kernel runs, for people: ISA, instruction, tile, fields and scales. As `qc_gemm_describe`.
 */
int32_t qc_weight_only_describe(const struct qc_weight_only *plan,
                                char *buf,
                                size_t len,
                                size_t *length);

/**
 * Ends a plan; NULL does nothing.
 */
void qc_weight_only_free(struct qc_weight_only *plan);

/**
 * Fills `*finish` with the defaults. `struct_size` is `sizeof *finish`.
 */
int32_t qc_finish_init(size_t struct_size, struct qc_finish *finish);

/**
 * Folds batch norm behind scale\[n\] * sum + bias\[n\] into that scale and bias, for `qc_finish`, of N channels each:
 * gamma\[n\] * (y - mean\[n\]) / sqrt(var\[n\] + eps) + beta\[n\] of what y was.
 *
 * `scale` and `bias` are read, then replaced; in double, rounded to float once. gamma may be negative or 0. Errors if var + eps
 * is not above 0; then nothing is written.
 */
int32_t qc_fold_batch_norm(size_t n,
                           const float *gamma,
                           const float *beta,
                           const float *mean,
                           const float *var,
                           float eps,
                           float *scale,
                           float *bias);

/**
 * Fills `*residual` with the defaults. `struct_size` is `sizeof *residual`.
 */
int32_t qc_residual_init(size_t struct_size, struct qc_residual *residual);

/**
 * Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
 */
int32_t qc_conv2d_options_init(size_t struct_size, struct qc_conv2d_options *options);

/**
 * Makes a plan. Free it with `qc_conv2d_free`.
 */
int32_t qc_conv2d_new(const struct qc_conv2d_options *options, struct qc_conv2d **conv);

/**
 * Rows and columns of the output, OH and OW.
 */
int32_t qc_conv2d_output_size(const struct qc_conv2d *conv, size_t *height, size_t *width);

/**
 * The number of `int32_t` of scratch that a run on the threads of `pool`, or without one, needs; may be 0.
 */
int32_t qc_conv2d_scratch_len(const struct qc_conv2d *conv,
                              const struct qc_pool *pool,
                              size_t *len);

/**
 * The output of images `image_begin` .. `image_end` - 1, `[image_end - image_begin, OH, OW, O]`.
 *
 * `words` are all `images` packed images. `out` has `out_len` elements of the type that the plan's output is of; packed
 * codes have as many words as `qc_packed_words` says for (image_end - image_begin) x OH x OW rows of O columns, and
 * all others an element for each of those. `residual` is NULL unless the plan adds one. `scratch` has
 * `qc_conv2d_scratch_len` elements or more for this pool; two runs at once need two. Nothing is allocated.
 */
int32_t qc_conv2d_run(const struct qc_conv2d *conv,
                      const uint32_t *words,
                      size_t n_words,
                      size_t images,
                      size_t image_begin,
                      size_t image_end,
                      const struct qc_residual *residual,
                      void *out,
                      size_t out_len,
                      int32_t *scratch,
                      size_t scratch_len,
                      const struct qc_pool *pool);

/**
 * As `qc_conv2d_run`, with a byte for each of the `images` x H x W x C codes: unsigned codes as `uint8_t`, signed ones
 * as the bytes of `int8_t`. Not for bipolar activations.
 */
int32_t qc_conv2d_run_bytes(const struct qc_conv2d *conv,
                            const uint8_t *bytes,
                            size_t n_bytes,
                            size_t images,
                            size_t image_begin,
                            size_t image_end,
                            const struct qc_residual *residual,
                            void *out,
                            size_t out_len,
                            int32_t *scratch,
                            size_t scratch_len,
                            const struct qc_pool *pool);

/**
 * Which kernel runs, for people: ISA, method, tile and blocks. As `snprintf` does.
 *
 * `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
 * `*length` receives the length of the whole text without its zero: the text was cut if that is not
 * below `len`.
 */
int32_t qc_conv2d_describe(const struct qc_conv2d *conv, char *buf, size_t len, size_t *length);

/**
 * Ends a plan; NULL does nothing.
 */
void qc_conv2d_free(struct qc_conv2d *conv);

/**
 * Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
 */
int32_t qc_float_conv2d_options_init(size_t struct_size, struct qc_float_conv2d_options *options);

/**
 * Makes a plan. Free it with `qc_float_conv2d_free`.
 */
int32_t qc_float_conv2d_new(const struct qc_float_conv2d_options *options,
                            struct qc_float_conv2d **conv);

/**
 * Rows and columns of the output, OH and OW.
 */
int32_t qc_float_conv2d_output_size(const struct qc_float_conv2d *conv,
                                    size_t *height,
                                    size_t *width);

/**
 * The number of floats of scratch that a run over up to `images` images on the threads of `pool`, or without one, needs;
 * may be 0.
 */
int32_t qc_float_conv2d_scratch_len(const struct qc_float_conv2d *conv,
                                    size_t images,
                                    const struct qc_pool *pool,
                                    size_t *len);

/**
 * The output of all images at `floats`, `[images, OH, OW, O]`; there are as many as `n_floats` says, which is a multiple
 * of H x W x C.
 *
 * `out` has `out_len` elements of the type that the plan's output is of, `float` without a finish; packed codes have as
 * many words as `qc_packed_words` says for images x OH x OW rows of O columns, and all others an element for each of
 * those. `residual` is NULL unless the plan adds one. `scratch` has `qc_float_conv2d_scratch_len` elements or more for
 * this pool; two runs at once need two. Nothing is allocated. A float is that of `qc_weight_only_run_f32` for the row of
 * its taps in the order KH, KW, C / groups, with 0 outside of the image; of a transposed convolution, taps that add
 * nothing to a pixel are not in its row, and the others are in the order of the inputs that they read.
 */
int32_t qc_float_conv2d_run_f32(const struct qc_float_conv2d *conv,
                                const float *floats,
                                size_t n_floats,
                                const struct qc_residual *residual,
                                void *out,
                                size_t out_len,
                                float *scratch,
                                size_t scratch_len,
                                const struct qc_pool *pool);

/**
 * As `qc_float_conv2d_run_f32`, with images that are halves.
 */
int32_t qc_float_conv2d_run_f16(const struct qc_float_conv2d *conv,
                                const uint16_t *floats,
                                size_t n_floats,
                                const struct qc_residual *residual,
                                void *out,
                                size_t out_len,
                                float *scratch,
                                size_t scratch_len,
                                const struct qc_pool *pool);

/**
 * As `qc_float_conv2d_run_f32`, with images that are bfloat16.
 */
int32_t qc_float_conv2d_run_bf16(const struct qc_float_conv2d *conv,
                                 const uint16_t *floats,
                                 size_t n_floats,
                                 const struct qc_residual *residual,
                                 void *out,
                                 size_t out_len,
                                 float *scratch,
                                 size_t scratch_len,
                                 const struct qc_pool *pool);

/**
 * Which kernel runs, for people: ISA, instruction, tile, fields and scales. As `qc_conv2d_describe`.
 */
int32_t qc_float_conv2d_describe(const struct qc_float_conv2d *conv,
                                 char *buf,
                                 size_t len,
                                 size_t *length);

/**
 * Ends a plan; NULL does nothing.
 */
void qc_float_conv2d_free(struct qc_float_conv2d *conv);

/**
 * Fills `*window` with the defaults. `struct_size` is `sizeof *window`.
 */
int32_t qc_window_init(size_t struct_size, struct qc_window *window);

/**
 * Makes a plan. Free it with `qc_max_pool_free`. A window that holds nothing but padding is an error.
 */
int32_t qc_max_pool_new(const struct qc_window *window,
                        struct qc_max_pool **max_pool);

/**
 * Rows and columns of the output, OH and OW.
 */
int32_t qc_max_pool_output_size(const struct qc_max_pool *max_pool, size_t *height, size_t *width);

/**
 * Pools `images` packed images into `out`, codes of the same encoding `[images, OH, OW, C]`.
 *
 * `out_len` is what `qc_packed_words` says for images x OH x OW rows of C columns.
 */
int32_t qc_max_pool_run(const struct qc_max_pool *max_pool,
                        const uint32_t *words,
                        size_t n_words,
                        size_t images,
                        uint32_t *out,
                        size_t out_len,
                        const struct qc_pool *pool);

/**
 * Ends a plan; NULL does nothing.
 */
void qc_max_pool_free(struct qc_max_pool *max_pool);

/**
 * Makes a plan. Free it with `qc_average_pool_free`. A window that holds nothing but padding is an error.
 */
int32_t qc_average_pool_new(const struct qc_window *window,
                            struct qc_average_pool **average_pool);

/**
 * Rows and columns of the output, OH and OW.
 */
int32_t qc_average_pool_output_size(const struct qc_average_pool *average_pool,
                                    size_t *height,
                                    size_t *width);

/**
 * Means of `images` packed images, of which the integer 1 stands for `scale`, into `out` `[images, OH, OW, C]`.
 *
 * A mean is sum * (scale / count): the integers of the window that are no padding summed exactly, `scale` divided by
 * their number and rounded, the sum converted to the nearest float, then one product. `out_len` is
 * images x OH x OW x C.
 */
int32_t qc_average_pool_run_f32(const struct qc_average_pool *average_pool,
                                const uint32_t *words,
                                size_t n_words,
                                size_t images,
                                float scale,
                                float *out,
                                size_t out_len,
                                const struct qc_pool *pool);

/**
 * The codes that `quantizer`, any, gives the means of `qc_average_pool_run_f32`.
 *
 * `out_len` is what `qc_packed_words` says for images x OH x OW rows of C columns of the quantizer's encoding.
 */
int32_t qc_average_pool_run_codes(const struct qc_average_pool *average_pool,
                                  const uint32_t *words,
                                  size_t n_words,
                                  size_t images,
                                  float scale,
                                  const struct qc_quantizer *quantizer,
                                  uint32_t *out,
                                  size_t out_len,
                                  const struct qc_pool *pool);

/**
 * Ends a plan; NULL does nothing.
 */
void qc_average_pool_free(struct qc_average_pool *average_pool);

/**
 * The floats scale * integer of packed codes `[rows, cols]`, not ternary ones. `out_len` is rows x cols.
 */
int32_t qc_dequantize_f32(int32_t encoding,
                          size_t rows,
                          size_t cols,
                          const uint32_t *words,
                          size_t n_words,
                          float scale,
                          float *out,
                          size_t out_len,
                          const struct qc_pool *pool);

/**
 * As `qc_max_pool_run`, of elements of any kind but `QC_KIND_I32`, into `out` of the same kind.
 *
 * `len` and `out_len` count elements: images x H x W x C and images x OH x OW x C; of `QC_KIND_PLANES` the words that
 * `qc_packed_words` says. Codes are of the window's encoding, in bytes not bipolar; for floats it does not count. A NaN is
 * less than every float.
 */
int32_t qc_max_pool_run_kind(const struct qc_max_pool *max_pool,
                             int32_t kind,
                             const void *input,
                             size_t len,
                             size_t images,
                             void *out,
                             size_t out_len,
                             const struct qc_pool *pool);

/**
 * As `qc_average_pool_run_f32`, of elements of any kind but `QC_KIND_I32`, `len` of them as for `qc_max_pool_run_kind`.
 *
 * The floats of a window are added row by row of the window, each sum rounded to float, from 0 on; then as for codes.
 */
int32_t qc_average_pool_run_kind_f32(const struct qc_average_pool *average_pool,
                                     int32_t kind,
                                     const void *input,
                                     size_t len,
                                     size_t images,
                                     float scale,
                                     float *out,
                                     size_t out_len,
                                     const struct qc_pool *pool);

/**
 * The codes that `quantizer`, `QC_SIGN` or `QC_RELU`, gives the means of `qc_average_pool_run_kind_f32`; `out_len` as for
 * `qc_average_pool_run_codes`.
 */
int32_t qc_average_pool_run_kind_codes(const struct qc_average_pool *average_pool,
                                       int32_t kind,
                                       const void *input,
                                       size_t len,
                                       size_t images,
                                       float scale,
                                       const struct qc_quantizer *quantizer,
                                       uint32_t *out,
                                       size_t out_len,
                                       const struct qc_pool *pool);

/**
 * Reads a model from a file, for the ISA that `QCORE_ISA` says, or else the best.
 *
 * `path` is in the system's own encoding of file names. Free the model with `qc_model_free`.
 */
int32_t qc_model_load(const char *path, struct qc_model **model);

/**
 * Reads a model from the bytes of a file, else as `qc_model_load`. The bytes are not needed afterwards.
 */
int32_t qc_model_load_memory(const uint8_t *bytes,
                             size_t len,
                             struct qc_model **model);

/**
 * Writes the model into a file: beside it first, then under its name.
 */
int32_t qc_model_save(const struct qc_model *model, const char *path);

/**
 * The bytes of the model's file, which do not depend on the ISA.
 *
 * `*length` receives their number. They are written if `len`, that of `bytes`, is not below it; with `len` 0 `bytes` may be
 * NULL.
 */
int32_t qc_model_to_bytes(const struct qc_model *model,
                          uint8_t *bytes,
                          size_t len,
                          size_t *length);

/**
 * What the model takes and gives. Set `info->struct_size` first.
 */
int32_t qc_model_get_info(const struct qc_model *model, struct qc_model_info *info);

/**
 * The type of the images. Set `value_type->struct_size` first.
 */
int32_t qc_model_input_type(const struct qc_model *model, struct qc_value_type *value_type);

/**
 * The type of output `index`, below `n_outputs`. Set `value_type->struct_size` first.
 */
int32_t qc_model_output_type(const struct qc_model *model,
                             size_t index,
                             struct qc_value_type *value_type);

/**
 * What `qc_workspace_new` with these arguments takes, and the model's weights; nothing is allocated. Set
 * `memory->struct_size` first.
 */
int32_t qc_model_memory(const struct qc_model *model,
                        size_t images,
                        size_t threads,
                        int32_t mode,
                        struct qc_memory *memory);

/**
 * Memory for runs of `model` over up to `images` images at a time, more in turns, on up to `threads` threads (0: those of
 * a run without a pool, one), in a mode, `QC_MODE_LATENCY` or `QC_MODE_THROUGHPUT`.
 *
 * One call at a time may use it. It does not need the model to live. Free it with `qc_workspace_free`.
 */
int32_t qc_workspace_new(const struct qc_model *model,
                         size_t images,
                         size_t threads,
                         int32_t mode,
                         struct qc_workspace **workspace);

/**
 * Bytes that a workspace takes.
 */
int32_t qc_workspace_bytes(struct qc_workspace *workspace, size_t *bytes);

/**
 * Ends a workspace; NULL does nothing.
 */
void qc_workspace_free(struct qc_workspace *workspace);

/**
 * Ends a model; NULL does nothing. Workspaces are freed on their own.
 */
void qc_model_free(struct qc_model *model);

/**
 * Fills `*value_type` with the defaults. `struct_size` is `sizeof *value_type`.
 */
int32_t qc_value_type_init(size_t struct_size, struct qc_value_type *value_type);

/**
 * A model that takes images of the type `image`: bytes, or floats of 32 or 16 bits. `isa` is the name of the ISA to run
 * on, or NULL for what `QCORE_ISA` says, or else the best. Free the builder with `qc_model_builder_free`.
 */
int32_t qc_model_builder_new(const struct qc_value_type *image,
                             const char *isa,
                             struct qc_model_builder **builder);

/**
 * The type of a value. Set `value_type->struct_size` first.
 */
int32_t qc_model_builder_type_of(struct qc_model_builder *builder,
                                 size_t value,
                                 struct qc_value_type *value_type);

/**
 * Gives the next node a name, UTF-8, for people: errors and descriptions show it.
 */
int32_t qc_model_builder_name(struct qc_model_builder *builder, const char *name);

/**
 * The model with these outputs, 1 to 8 values, in this order. Free it with `qc_model_free`.
 *
 * The builder is used up, unless an argument is refused; it is to be freed all the same.
 */
int32_t qc_model_builder_build(struct qc_model_builder *builder,
                               const size_t *outputs,
                               size_t n_outputs,
                               struct qc_model **model);

/**
 * Ends a builder; NULL does nothing.
 */
void qc_model_builder_free(struct qc_model_builder *builder);

/**
 * A convolution of the codes `x`; what leaves is what the finish says.
 *
 * `options` are those of a plan, but for `activation_encoding`, `channels`, `height`, `width` and `isa`, which follow from
 * `x`. The finish adds no residual.
 */
int32_t qc_model_builder_conv(struct qc_model_builder *builder,
                              size_t x,
                              const struct qc_conv2d_options *options,
                              size_t *value);

/**
 * As `qc_model_builder_conv`, with a residual where the finish adds it: the value `residual`, floats or codes that are not
 * ternary, of the output's height, width and channels.
 *
 * `residual_scale` is the float that the integer 1 of a code stands for; for floats it is 1.
 */
int32_t qc_model_builder_conv_residual(struct qc_model_builder *builder,
                                       size_t x,
                                       const struct qc_conv2d_options *options,
                                       size_t residual,
                                       float residual_scale,
                                       size_t *value);

/**
 * A linear layer over whole images of the codes `x`, whose elements count in the order H, W, C; an image of one pixel leaves.
 *
 * `options` are those of `qc_model_builder_conv`, with the defaults for everything between `channels` and `filters`: N =
 * `output_channels`, and `filters` are N rows of H x W x C columns.
 */
int32_t qc_model_builder_linear(struct qc_model_builder *builder,
                                size_t x,
                                const struct qc_conv2d_options *options,
                                size_t *value);

/**
 * As `qc_model_builder_linear`, with a residual as in `qc_model_builder_conv_residual`.
 */
int32_t qc_model_builder_linear_residual(struct qc_model_builder *builder,
                                         size_t x,
                                         const struct qc_conv2d_options *options,
                                         size_t residual,
                                         float residual_scale,
                                         size_t *value);

/**
 * A convolution of the floats `x` of 32 or 16 bits by packed filters, with the float 0 outside of the image; floats of
 * 32 bits leave. A finish or quantizer that alone reads them is done with it, and they are never stored.
 *
 * `weights` are N = O filters of K = KH x KW x C; `isa` there counts for nothing. Of `window` kernel, stride, dilation and
 * padding count.
 */
int32_t qc_model_builder_float_conv(struct qc_model_builder *builder,
                                    size_t x,
                                    const struct qc_weight_only_options *weights,
                                    const struct qc_window *window,
                                    size_t *value);

/**
 * As `qc_model_builder_float_conv`, by the options of a plan: groups and transposed ones too.
 *
 * Of `options` the ISA, `channels`, `height` and `width` follow from `x`; `finish` is NULL: a finish is a node by itself.
 */
int32_t qc_model_builder_float_conv2d(struct qc_model_builder *builder,
                                      size_t x,
                                      const struct qc_float_conv2d_options *options,
                                      size_t *value);

/**
 * A linear layer over whole images of the floats `x` of 32 or 16 bits by packed weights, K = H x W x C; as
 * `qc_model_builder_float_conv`.
 */
int32_t qc_model_builder_float_linear(struct qc_model_builder *builder,
                                      size_t x,
                                      const struct qc_weight_only_options *weights,
                                      size_t *value);

/**
 * A finish by itself, over the elements of each channel of `x`, floats or the integers of codes, in place of sums. It has
 * scale and bias, and adds no residual.
 */
int32_t qc_model_builder_apply(struct qc_model_builder *builder,
                               size_t x,
                               const struct qc_finish *finish,
                               size_t *value);

/**
 * The sum of two values of equal height, width and channels, each floats or codes: as `qc_model_builder_apply` over `a`, with
 * `b` where the finish adds it.
 *
 * `b_scale` is the float that the integer 1 of a code of `b` stands for; for floats it is 1. With scales 1, biases 0 and
 * `QC_RESIDUAL_BEFORE` it is function(a + b).
 */
int32_t qc_model_builder_add(struct qc_model_builder *builder,
                             size_t a,
                             size_t b,
                             float b_scale,
                             const struct qc_finish *finish,
                             size_t *value);

/**
 * Packed codes of the floats `x`.
 */
int32_t qc_model_builder_quantize(struct qc_model_builder *builder,
                                  size_t x,
                                  const struct qc_quantizer *quantizer,
                                  size_t *value);

/**
 * Codes of the floats `x`, a byte each; not of the sign.
 */
int32_t qc_model_builder_quantize_bytes(struct qc_model_builder *builder,
                                        size_t x,
                                        const struct qc_quantizer *quantizer,
                                        size_t *value);

/**
 * The floats scale * integer of the codes `x`.
 */
int32_t qc_model_builder_dequantize(struct qc_model_builder *builder,
                                    size_t x,
                                    float scale,
                                    size_t *value);

/**
 * Per channel the greatest element of each window, pads aside: of codes by integer; a NaN is less than every float.
 *
 * Of `window` kernel, stride, dilation and padding count.
 */
int32_t qc_model_builder_max_pool(struct qc_model_builder *builder,
                                  size_t x,
                                  const struct qc_window *window,
                                  size_t *value);

/**
 * Per channel the mean of each window, pads aside: sum * (scale / count). Floats leave, or the packed codes of `quantizer`,
 * any, if that is not NULL.
 *
 * Of `window` kernel, stride, dilation and padding count. A kernel of H x W makes one pixel of the image.
 */
int32_t qc_model_builder_average_pool(struct qc_model_builder *builder,
                                      size_t x,
                                      const struct qc_window *window,
                                      float scale,
                                      const struct qc_quantizer *quantizer,
                                      size_t *value);

/**
 * The mean of whole images: `qc_model_builder_average_pool` with a window of H x W.
 */
int32_t qc_model_builder_global_average_pool(struct qc_model_builder *builder,
                                             size_t x,
                                             float scale,
                                             const struct qc_quantizer *quantizer,
                                             size_t *value);

/**
 * The channels of all of `values`, one after the other; of equal height, width and kind.
 */
int32_t qc_model_builder_concat(struct qc_model_builder *builder,
                                const size_t *values,
                                size_t n_values,
                                size_t *value);

/**
 * An image of one pixel with all elements of `x` as channels, in the order H, W, C.
 */
int32_t qc_model_builder_flatten(struct qc_model_builder *builder, size_t x, size_t *value);

/**
 * Each pixel of `x` `vertical` times below itself and `horizontal` times beside itself.
 */
int32_t qc_model_builder_up_sample(struct qc_model_builder *builder,
                                   size_t x,
                                   size_t vertical,
                                   size_t horizontal,
                                   size_t *value);

/**
 * The output of `images`, `[M, H, W, C]` with a byte a code, into `logits`, `[M, outputs]`; of a model with one output, of
 * floats.
 *
 * M follows from `n_bytes`, the length of `images`; `n_logits` is M x outputs. Nothing is allocated, but for the jobs of a
 * pool.
 * Errors if another call is using the workspace.
 */
int32_t qc_model_run(const struct qc_model *model,
                     const uint8_t *images,
                     size_t n_bytes,
                     float *logits,
                     size_t n_logits,
                     struct qc_workspace *workspace,
                     const struct qc_pool *pool);

/**
 * As `qc_model_run`, for images of floats.
 */
int32_t qc_model_run_f32(const struct qc_model *model,
                         const float *images,
                         size_t n_floats,
                         float *logits,
                         size_t n_logits,
                         struct qc_workspace *workspace,
                         const struct qc_pool *pool);

/**
 * All outputs of `images`, which are `len` bytes or floats of 32 or 16 bits, as the model takes. `outputs` are as many as
 * the model has.
 *
 * Else as `qc_model_run`.
 */
int32_t qc_model_run_outputs(const struct qc_model *model,
                             const void *images,
                             size_t len,
                             const struct qc_output *outputs,
                             size_t n_outputs,
                             struct qc_workspace *workspace,
                             const struct qc_pool *pool);

/**
 * Seconds that each node takes, medians of `runs` runs over all `images`, which must fit in the workspace at a time.
 *
 * `len` is that of `images`, bytes or floats as the model takes. `seconds` has `n_nodes` elements, as many as the model has
 * nodes. In throughput mode one thread runs, as each of them would.
 */
int32_t qc_model_profile(const struct qc_model *model,
                         const void *images,
                         size_t len,
                         size_t runs,
                         float *seconds,
                         size_t n_nodes,
                         struct qc_workspace *workspace,
                         const struct qc_pool *pool);

/**
 * Seconds of each node for an image that no run on one thread of this core can beat by much, where `images` images go
 * through together: the longest of its multiply-accumulates by the instructions of its kernel on registers alone, of
 * reading its weights and what enters, and of writing what leaves, by rates that are measured in milliseconds. It is a
 * bound, not an estimate. 0 for nodes that do not run.
 *
 * `seconds` has `n_nodes` elements, as many as the model has nodes. Errors if `images` is 0.
 */
int32_t qc_model_predict(const struct qc_model *model,
                         size_t images,
                         float *seconds,
                         size_t n_nodes);

/**
 * What node `index` is, below the model's `nodes`; 0 is the images. Set `info->struct_size` first; `value_type`, the type of
 * what it makes, with its own, or NULL.
 */
int32_t qc_model_node(const struct qc_model *model,
                      size_t index,
                      struct qc_node_info *info,
                      struct qc_value_type *value_type);

/**
 * Node `index` for people: operation, name, shape, encodings, what it makes, multiply-accumulates of an image, packed bytes,
 * kernel. As `snprintf` does.
 *
 * `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
 * `*length` receives the length of the whole text without its zero: the text was cut if that is not
 * below `len`.
 */
int32_t qc_model_describe_node(const struct qc_model *model,
                               size_t index,
                               char *buf,
                               size_t len,
                               size_t *length);

/**
 * All nodes, a line each, as `qc_model_describe_node` tells them, behind their numbers.
 */
int32_t qc_model_describe(const struct qc_model *model, char *buf, size_t len, size_t *length);

/**
 * Where the time goes, for people: a line a node with the microseconds that were measured for an image, their share, those
 * that were predicted, and what `qc_model_describe_node` tells. As `snprintf` does.
 *
 * `measured` is what `qc_model_profile` gave for `images` images, `predicted` what `qc_model_predict` gave, or NULL for none;
 * each has `n_nodes` elements. `buf`, `len` and `length` are as for `qc_model_describe_node`.
 */
int32_t qc_model_report(const struct qc_model *model,
                        const float *measured,
                        const float *predicted,
                        size_t n_nodes,
                        size_t images,
                        char *buf,
                        size_t len,
                        size_t *length);

/**
 * Fills `*quantizer` with the defaults. `struct_size` is `sizeof *quantizer`.
 */
int32_t qc_weight_quantizer_init(size_t struct_size, struct qc_weight_quantizer *quantizer);

/**
 * Fills `*quantizer`, whose `struct_size` is set, from a text as recipes have it: `ternary-exact`,
 * `uniform-sym:bits=4,sweeps=2`, `relaxed:lambda=1.5,of=binary-mean`. An unknown kind is told with the nearest known.
 */
int32_t qc_weight_quantizer_parse(const char *text,
                                  struct qc_weight_quantizer *quantizer);

/**
 * The encoding that holds the codes, `QC_BIPOLAR` and so on; 0 if the values are not a scale times integers of any
 * encoding: grids, two scales, relaxed weights, DoReFa of 8 bits.
 */
int32_t qc_weight_quantizer_encoding(const struct qc_weight_quantizer *quantizer,
                                     int32_t *encoding);

/**
 * Projects latent weights `[rows, cols]`: `codes` integers, `values` what they stand for, both rows x cols, and
 * `scales`: `n_scales` is rows with `per_channel`, 2 (of +1 and of -1) for ternary weights with two scales, else 1.
 *
 * `metric` is D, rows x cols and above 0, of the loss-aware kinds; NULL is 1 everywhere. `seed`, `step` and `tensor` name the draws
 * of the stochastic kinds: the same three give the same draws. `codes` and `values` may be NULL. Zeros, NaN and
 * infinities: binary codes of 0.0 and -0.0 are +1, all others 0; a scale that is made from what is not finite is NaN.
 */
int32_t qc_project_weights(const struct qc_weight_quantizer *quantizer,
                           const float *latent,
                           size_t rows,
                           size_t cols,
                           const float *metric,
                           uint64_t seed,
                           uint32_t step,
                           uint32_t tensor,
                           int32_t *codes,
                           float *values,
                           float *scales,
                           size_t n_scales);

/**
 * Where BinaryRelax takes its gradient: out = (w_f + lambda w) / (1 + lambda), `n` elements each; lambda 0 or more.
 */
int32_t qc_relax(const float *latent,
                 const float *w,
                 size_t n,
                 float lambda,
                 float *out);

/**
 * LSQ: from the gradient `d` by w the one by w_f, in its place, and the one by the step; `n` elements each. The latter
 * is not yet times 1 / sqrt(n Qp), Qp = 2^(bits-1) - 1. bits is 2 to 8.
 */
int32_t qc_lsq_backward(const float *latent,
                        size_t n,
                        float step_size,
                        int32_t bits,
                        float *d,
                        float *d_step);

/**
 * Multiplies the gradient `d` by an activation's output with the coarse derivative at `x`, in place; `n` elements each.
 *
 * `by` is `QC_BY_...`; `alpha` above 0 and `bits`, 1 to 8, are those of the quantized ReLU. NaN gets 0 but from identity.
 */
int32_t qc_mask_x(int32_t by,
                  const float *x,
                  size_t n,
                  float alpha,
                  int32_t bits,
                  float *d);

/**
 * Sums the gradient `d` by a quantized ReLU's output times the coarse derivative by alpha at `x` into `*d_alpha`; `n`
 * elements each. `by` is `QC_ALPHA_...`, `rounding` `QC_CEIL` or `QC_NEAREST`. The paper multiplies it by 0.01 and clamps
 * it to [-1, 1]; LSQ multiplies by 1 / sqrt(n q).
 */
int32_t qc_sum_alpha(int32_t by,
                     const float *x,
                     size_t n,
                     float alpha,
                     int32_t bits,
                     int32_t rounding,
                     const float *d,
                     float *d_alpha);

/**
 * Multiplies the gradient `d` by the projected weights with the coarse derivative at the latent ones, in place; `n`
 * elements each. `by` is `QC_WEIGHT_...`.
 */
int32_t qc_mask_w(int32_t by,
                  const float *latent,
                  size_t n,
                  float *d);

/**
 * The alpha with the least mean square error on the positive half of N(0, 1), for `bits` 1 to 8 and a rounding.
 */
int32_t qc_alpha_init(int32_t bits,
                      int32_t rounding,
                      float *alpha);

/**
 * The alpha that puts the greatest level at the greatest |x|; `n` is 1 or more, x is finite.
 */
int32_t qc_alpha_calibrate(const float *x, size_t n, int32_t bits, float *alpha);

/**
 * Lloyd's fit of `*alpha`, from the value that is there, to the positive x: codes and least squares in turns, `rounds`
 * at most (one with `QC_CEIL`).
 */
int32_t qc_alpha_fit(const float *x,
                     size_t n,
                     int32_t bits,
                     int32_t rounding,
                     size_t rounds,
                     float *alpha);

/**
 * Draws latent weights to their projection: w_f <- (1 - rho) w_f + rho w; `n` elements each, rho 0 to 1. Any step comes
 * after it. rho = 1 is projected descent.
 */
int32_t qc_blend(float *latent,
                 const float *w,
                 size_t n,
                 float rho);

/**
 * SGD: velocity <- momentum velocity + (gradient + weight_decay value), value <- value - lr velocity; `n` elements
 * each. `velocity` begins with zeros.
 */
int32_t qc_sgd_step(float *value,
                    const float *gradient,
                    float *velocity,
                    size_t n,
                    float lr,
                    float momentum,
                    float weight_decay);

/**
 * Fills `*adam` with the defaults. `struct_size` is `sizeof *adam`.
 */
int32_t qc_adam_init(size_t struct_size, struct qc_adam *adam);

/**
 * Counts a step in `*steps` and moves the moments `m` and `v` by the gradient at `value`; `n` elements each. All three
 * begin with zeros.
 */
int32_t qc_adam_observe(const struct qc_adam *adam,
                        const float *value,
                        const float *gradient,
                        float *m,
                        float *v,
                        size_t n,
                        uint64_t *steps);

/**
 * A whole step of Adam: `qc_adam_observe`, then value <- value - m^ / D with D as `qc_adam_metric` says; m^ is
 * m / (1 - beta1^steps).
 */
int32_t qc_adam_step(const struct qc_adam *adam,
                     float *value,
                     const float *gradient,
                     float *m,
                     float *v,
                     size_t n,
                     uint64_t *steps);

/**
 * The metric of the loss-aware rules, D = (eps + sqrt(v / (1 - beta2^steps))) / lr; `n` elements each, steps 1 or more.
 */
int32_t qc_adam_metric(const struct qc_adam *adam,
                       const float *v,
                       size_t n,
                       uint64_t steps,
                       float *metric);

/**
 * A step in the metric, w_f <- w_f - g / D; `n` elements each. With `qc_project_weights` in D: LAB, LAT and LAQ.
 */
int32_t qc_metric_step(float *latent,
                       const float *g,
                       const float *metric,
                       size_t n);

/**
 * first <- a first + (1 - a) second, `n` elements each, a 0 to 1: what one-step forward and backtrack does with its two
 * gradients and with its two metrics.
 */
int32_t qc_combine(float *first,
                   const float *second,
                   size_t n,
                   float a);

/**
 * Rounds `w`, `n` elements, to multiples of `delta` above 0, in place: `QC_NEAREST`, ties away from 0, or `QC_STOCHASTIC` with
 * the draws that `seed`, `step` and `tensor` name. NaN becomes 0. Behind a step it is the rule R or SR.
 */
int32_t qc_round(float *w,
                 size_t n,
                 float delta,
                 int32_t rounding,
                 uint64_t seed,
                 uint32_t step,
                 uint32_t tensor);

/**
 * Clips `latent`, `n` elements, to [-bound, bound], bound above 0; NaN stays.
 */
int32_t qc_clip(float *latent, size_t n, float bound);

/**
 * Bop: mean <- (1 - gamma) mean + gamma gradient; a weight flips where |mean| > tau and mean has its sign. `n` elements
 * each, gamma above 0 and at most 1, tau 0 or more; `*flips` is how many flipped.
 */
int32_t qc_bop_step(float *w,
                    const float *gradient,
                    float *mean,
                    size_t n,
                    float gamma,
                    float tau,
                    size_t *flips);

/**
 * Adds the gradient of dampening to `d`: 2 lambda (w_f - w) where low <= w_f <= high; `n` elements each, lambda 0 or more.
 */
int32_t qc_dampen(const float *latent,
                  const float *w,
                  size_t n,
                  float low,
                  float high,
                  float lambda,
                  float *d);

/**
 * A freezer of `n` weights. `momentum`, above 0 and at most 1, is that of the frequency and of the mean of the codes (0.01 in
 * the paper); `has_zero` is 0 for binary weights, which have no code 0, else 1. Free it with `qc_freezer_free`.
 */
int32_t qc_freezer_new(size_t n,
                       float momentum,
                       int32_t has_zero,
                       struct qc_freezer **freezer);

/**
 * Ends a freezer; NULL does nothing.
 */
void qc_freezer_free(struct qc_freezer *freezer);

/**
 * Sees the codes after a step: a weight oscillates when its code changes in the direction opposite to its last change.
 * What does so with a frequency above `threshold` is frozen at the nearest code to the mean of its codes; the latent weights of all
 * that is frozen become `scale` times that code. `n` is that of the freezer; `*frozen` is how many are.
 */
int32_t qc_freezer_step(struct qc_freezer *freezer,
                        const int32_t *codes,
                        float *latent,
                        size_t n,
                        float scale,
                        float threshold,
                        size_t *frozen);

/**
 * Fills `*options` with the defaults. `struct_size` is `sizeof *options`.
 */
int32_t qc_trainer_options_init(size_t struct_size, struct qc_trainer_options *options);

/**
 * A run at its start, for the ISA that `QCORE_ISA` says, or else the best.
 *
 * `recipe` is the name of one that comes with the library (`qc_recipe_names`), or the path of a TOML file, which ends in
 * `.toml` or holds a slash; NULL is the recipe "default". `changes` is TOML text, such as "bits_a = 2\nepochs = 3", whose
 * fields take the place of the recipe's; NULL is none. Names that are none are told with the nearest known. Free the run
 * with `qc_trainer_free`.
 */
int32_t qc_trainer_new(const char *recipe,
                       const char *changes,
                       const struct qc_trainer_options *options,
                       struct qc_trainer **trainer);

/**
 * A run as a checkpoint holds it, of `qc_trainer_save` or of the tool; it goes on with the bits of one that never stopped.
 *
 * `images` is the number of training images in an epoch, as the run had it; another is refused (checkpoints of
 * version 2 do not tell theirs). `path` is in the system's own encoding of file names. Free the run with `qc_trainer_free`.
 */
int32_t qc_trainer_resume(const char *path,
                          size_t images,
                          struct qc_trainer **trainer);

/**
 * Writes a checkpoint: beside it first, then under its name. Errors if an epoch has begun and is not ended, and with
 * `QC_ERROR_DIVERGED` if a number that it would hold is not finite.
 */
int32_t qc_trainer_save(struct qc_trainer *trainer,
                        const char *path);

/**
 * A step on a batch of `count` images, `[count, height, width, channels]`, with a label each; 2 or more, usually as many as
 * the recipe's batch.
 *
 * `*loss` receives the mean loss of the batch before the step, `*correct` how many were right; each may be NULL. Errors if a
 * label is not below the classes, the epoch has had its steps or the recipe its epochs; then nothing has changed. A loss
 * or gradient that is not finite is `QC_ERROR_DIVERGED`, with epoch, step and layer: no parameter has moved, but running
 * averages, and steps of activations that batches set, may be spoilt. A parameter or running average that comes out of the
 * step not finite is the same error. Go back to the last checkpoint.
 */
int32_t qc_trainer_step(struct qc_trainer *trainer,
                        const uint8_t *images,
                        const uint8_t *labels,
                        size_t count,
                        float *loss,
                        size_t *correct,
                        const struct qc_pool *pool);

/**
 * Ends an epoch: the next step is the first of another, with the rate and the phase that the recipe gives it. The epoch may
 * have had fewer steps than an epoch has, but one.
 *
 * Set `report->struct_size` first; `report` may be NULL. After the last epoch of a recipe with `reestimate`,
 * `qc_trainer_reestimate` is due.
 */
int32_t qc_trainer_end_epoch(struct qc_trainer *trainer,
                             struct qc_epoch_report *report);

/**
 * An epoch, whole, over `count` images, `[count, height, width, channels]`, with a label each: in the order that the recipe's
 * seed gives, with the recipe's shifts and mirrors, ended, and after the last epoch with its re-estimation. As the tool does.
 *
 * `count` / batch is the steps of an epoch. The images are copied for the call. Set `report->struct_size` first; `report`
 * may be NULL. Errors as `qc_trainer_step`; an epoch that an error ends is not counted.
 */
int32_t qc_trainer_epoch(struct qc_trainer *trainer,
                         const uint8_t *images,
                         const uint8_t *labels,
                         size_t count,
                         struct qc_epoch_report *report,
                         const struct qc_pool *pool);

/**
 * Estimates the running averages of the normalisations anew, from `count` images, `[count, height, width, channels]`, batch
 * after batch; what does not fill a batch is left out. Weights stay.
 *
 * What `reestimate` of `qc_trainer_info` asks for after the last epoch; `qc_trainer_epoch` has done it.
 */
int32_t qc_trainer_reestimate(struct qc_trainer *trainer,
                              const uint8_t *images,
                              size_t count,
                              const struct qc_pool *pool);

/**
 * What `count` images, `[count, height, width, channels]`, score against their labels, with running averages: quantized in
 * the quantized phase, on the kernels that the frozen model uses.
 *
 * `*loss` receives the mean loss, `*correct` how many were right; each may be NULL. Nothing of the run changes.
 */
int32_t qc_trainer_evaluate(struct qc_trainer *trainer,
                            const uint8_t *images,
                            const uint8_t *labels,
                            size_t count,
                            float *loss,
                            size_t *correct,
                            const struct qc_pool *pool);

/**
 * The logits of `count` images, `[count, height, width, channels]`, as `qc_trainer_evaluate` has them; `n_logits` is count x
 * classes. Those of the frozen model are the same, bit for bit.
 */
int32_t qc_trainer_predict(struct qc_trainer *trainer,
                           const uint8_t *images,
                           size_t count,
                           float *logits,
                           size_t n_logits,
                           const struct qc_pool *pool);

/**
 * The packed model of the net as it is now, to run or save; the trainer stays as it is. Free the model with `qc_model_free`.
 *
 * Errors in the float phase, and unless the weights of all layers are codes.
 */
int32_t qc_trainer_freeze(struct qc_trainer *trainer,
                          struct qc_model **model);

/**
 * Ends a run; NULL does nothing. What is not saved is lost; models that were frozen stay.
 */
void qc_trainer_free(struct qc_trainer *trainer);

/**
 * What the run is and how far it has come. Set `info->struct_size` first.
 */
int32_t qc_trainer_get_info(struct qc_trainer *trainer, struct qc_trainer_info *info);

/**
 * The run for people: a line of the net, then one of each of its tensors, name and number of elements. As `snprintf` does.
 *
 * `buf` receives up to `len` bytes, the last of them a closing zero; with `len` 0 it may be NULL.
 * `*length` receives the length of the whole text without its zero: the text was cut if that is not
 * below `len`.
 */
int32_t qc_trainer_describe(struct qc_trainer *trainer,
                            char *buf,
                            size_t len,
                            size_t *length);

/**
 * A tensor of the net by its name, such as "layers.0.latent", the name that it has in a checkpoint and in
 * `qc_trainer_describe`: latent weights, normalisations, steps of activations.
 *
 * `*length` receives the number of its elements. They are written if `len`, that of `values`, is not below it; with `len` 0
 * `values` may be NULL.
 */
int32_t qc_trainer_tensor(struct qc_trainer *trainer,
                          const char *name,
                          float *values,
                          size_t len,
                          size_t *length);

/**
 * The names of the recipes that come with the library, a line each, with what it is for behind a tab. As `snprintf` does,
 * see `qc_trainer_describe`.
 */
int32_t qc_recipe_names(char *buf,
                        size_t len,
                        size_t *length);

/**
 * The TOML text of the recipe of that name, to copy and edit. As `snprintf` does, see `qc_trainer_describe`.
 */
int32_t qc_recipe_text(const char *name,
                       char *buf,
                       size_t len,
                       size_t *length);

/**
 * The built-in data set: `count` digits as if written by hand, drawn from `seed`: `images` `[count, 28, 28, 1]`, white on black,
 * and `labels`, 0 to 9, of each as many, or one more. No measure of anything, but something to learn without a file.
 *
 * `half` is `QC_DIGITS_TRAIN` or `QC_DIGITS_TEST`. The tool trains on 20000 and measures with 4000 of its recipe's seed.
 * `count` is 1 to 10000000.
 */
int32_t qc_digits(uint64_t seed,
                  int32_t half,
                  size_t count,
                  uint8_t *images,
                  uint8_t *labels,
                  const struct qc_pool *pool);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QCORE_H */
