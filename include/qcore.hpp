// qcore for C++17 and later: the C header with owners for its handles, exceptions for its errors and views for its
// arrays. Nothing here but calls of C, so the library behind it may be of any compiler.
//
// What a function takes, gives and refuses stands at its C namesake in qcore.h.

#ifndef QCORE_HPP
#define QCORE_HPP

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "qcore.h"

namespace qcore {

// What went wrong: `what()` names the argument, its value and what was expected.
class Error : public std::runtime_error {
 public:
  explicit Error(std::int32_t status)
      : std::runtime_error(std::string(qc_status_name(status)) + ": " + qc_last_error()),
        status_(status) {}

  // One of QC_ERROR_...
  std::int32_t status() const noexcept { return status_; }

 private:
  std::int32_t status_;
};

// Throws unless `status` is QC_OK.
inline void check(std::int32_t status) {
  if (status != QC_OK) throw Error(status);
}

// Elements that somebody else owns: of a vector, of an array, or from a pointer on.
template <class T>
class View {
 public:
  constexpr View() noexcept = default;
  constexpr View(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

  template <std::size_t N>
  constexpr View(T (&array)[N]) noexcept : data_(array), size_(N) {}

  template <class Container,
            class = std::enable_if_t<
                !std::is_same_v<std::decay_t<Container>, View> &&
                std::is_convertible_v<decltype(std::declval<Container &>().data()), T *>>>
  constexpr View(Container &&container) noexcept
      : data_(container.data()), size_(container.size()) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

using Words = View<const std::uint32_t>;  // packed codes
using Bytes = View<const std::uint8_t>;   // codes, a byte each
using Floats = View<const float>;
using Halves = View<const std::uint16_t>;  // floats of 16 bits

// A handle that is freed at the end of its owner. It can be moved, and shared between threads as its C type can.
template <class T, void (*Free)(T *)>
class Handle {
 public:
  // The C handle, still owned here.
  T *get() const noexcept { return handle_.get(); }

 protected:
  Handle() = default;

  // Takes what `make(&handle)` makes.
  template <class Make>
  explicit Handle(Make &&make) {
    T *made = nullptr;
    check(make(&made));
    handle_.reset(made);
  }

 private:
  struct Deleter {
    void operator()(T *handle) const noexcept { Free(handle); }
  };
  std::unique_ptr<T, Deleter> handle_;
};

// The text that `describe(buf, len, &length)` writes.
template <class Describe>
std::string text_of(Describe &&describe) {
  std::size_t length = 0;
  check(describe(nullptr, 0, &length));
  std::string text(length + 1, '\0');
  check(describe(text.data(), text.size(), &length));
  text.resize(length);
  return text;
}

// A struct of options as its `init` function fills it.
template <class Options>
Options filled(std::int32_t (*init)(std::size_t, Options *)) {
  Options options;
  check(init(sizeof options, &options));
  return options;
}

inline qc_quantizer quantizer() { return filled(qc_quantizer_init); }
inline qc_gemm_options gemm_options() { return filled(qc_gemm_options_init); }
inline qc_weight_only_options weight_only_options() { return filled(qc_weight_only_options_init); }
inline qc_finish finish() { return filled(qc_finish_init); }
inline qc_residual residual() { return filled(qc_residual_init); }
inline qc_conv2d_options conv2d_options() { return filled(qc_conv2d_options_init); }
inline qc_float_conv2d_options float_conv2d_options() { return filled(qc_float_conv2d_options_init); }
inline qc_window window() { return filled(qc_window_init); }
inline qc_value_type value_type() { return filled(qc_value_type_init); }

// Folds batch norm behind scale * sum + bias into these two. Throws `std::invalid_argument` unless all are of as many
// channels.
inline void fold_batch_norm(Floats gamma, Floats beta, Floats mean, Floats var, float eps,
                            View<float> scale, View<float> bias) {
  const std::size_t n = scale.size();
  for (const std::size_t size : {gamma.size(), beta.size(), mean.size(), var.size(), bias.size()}) {
    if (size != n) throw std::invalid_argument("batch norm: expected as many channels everywhere");
  }
  check(qc_fold_batch_norm(n, gamma.data(), beta.data(), mean.data(), var.data(), eps, scale.data(),
                           bias.data()));
}

// Worker threads; 0 asks for one a processor.
class Pool : public Handle<qc_pool, qc_pool_free> {
 public:
  explicit Pool(std::size_t threads = 0)
      : Handle([&](qc_pool **pool) { return qc_pool_new(threads, pool); }) {}

  std::size_t threads() const {
    std::size_t threads = 0;
    check(qc_pool_threads(get(), &threads));
    return threads;
  }
};

// The C handle of a pool, or NULL for the caller's thread.
inline const qc_pool *raw(const Pool *pool) { return pool ? pool->get() : nullptr; }

// Words that `rows` x `cols` packed codes take.
inline std::size_t packed_words(std::int32_t encoding, std::size_t rows, std::size_t cols) {
  std::size_t words = 0;
  check(qc_packed_words(encoding, rows, cols, &words));
  return words;
}

// Integers `[rows, cols]` as bit planes. Throws `std::invalid_argument` if there are not rows x cols of them.
inline std::vector<std::uint32_t> pack(std::int32_t encoding, std::size_t rows, std::size_t cols,
                                       View<const std::int32_t> values) {
  std::vector<std::uint32_t> words(packed_words(encoding, rows, cols));
  // The size above would have been refused if rows x cols overflowed.
  if (values.size() != rows * cols) throw std::invalid_argument("values: expected rows x cols");
  check(qc_pack(encoding, rows, cols, values.data(), words.data(), words.size()));
  return words;
}

// Floats `[rows, cols]` as bit planes of the encoding that the quantizer has.
inline void quantize(Floats x, std::size_t rows, std::size_t cols, const qc_quantizer &quantizer,
                     View<std::uint32_t> words, const Pool *pool = nullptr) {
  if (cols != 0 ? x.size() / cols != rows || x.size() % cols != 0 : x.size() != 0) {
    throw std::invalid_argument("x: expected rows x cols");
  }
  check(qc_quantize_f32(x.data(), rows, cols, &quantizer, words.data(), words.size(), raw(pool)));
}

// Rows `begin` to `end` of `count`; of all of them if nothing else is said.
struct Range {
  std::size_t count;
  std::size_t begin;
  std::size_t end;

  constexpr Range(std::size_t all) noexcept : Range(all, 0, all) {}
  constexpr Range(std::size_t all, std::size_t from, std::size_t to) noexcept
      : count(all), begin(from), end(to) {}
};

// activations [M, K] x weights [N, K] -> [M, N], packed.
class Gemm : public Handle<qc_gemm, qc_gemm_free> {
 public:
  explicit Gemm(const qc_gemm_options &options)
      : Handle([&](qc_gemm **gemm) { return qc_gemm_new(&options, gemm); }) {}

  // Elements of scratch for `rows` rows of packed codes.
  std::size_t scratch_len(std::size_t rows) const {
    std::size_t len = 0;
    check(qc_gemm_scratch_len(get(), rows, &len));
    return len;
  }

  // Elements of scratch for `rows` rows of bytes.
  std::size_t scratch_len_bytes(std::size_t rows) const {
    std::size_t len = 0;
    check(qc_gemm_scratch_len_bytes(get(), rows, &len));
    return len;
  }

  void run(Words activations, Range rows, View<std::int32_t> out, View<std::int32_t> scratch,
           const Pool *pool = nullptr) const {
    check(qc_gemm_run_i32(get(), activations.data(), activations.size(), rows.count, rows.begin,
                          rows.end, out.data(), out.size(), scratch.data(), scratch.size(),
                          raw(pool)));
  }

  void run(Words activations, Range rows, View<float> out, View<std::int32_t> scratch,
           const Pool *pool = nullptr) const {
    check(qc_gemm_run_f32(get(), activations.data(), activations.size(), rows.count, rows.begin,
                          rows.end, out.data(), out.size(), scratch.data(), scratch.size(),
                          raw(pool)));
  }

  void run(Bytes activations, Range rows, View<std::int32_t> out, View<std::int32_t> scratch,
           const Pool *pool = nullptr) const {
    check(qc_gemm_run_bytes_i32(get(), activations.data(), activations.size(), rows.count,
                                rows.begin, rows.end, out.data(), out.size(), scratch.data(),
                                scratch.size(), raw(pool)));
  }

  void run(Bytes activations, Range rows, View<float> out, View<std::int32_t> scratch,
           const Pool *pool = nullptr) const {
    check(qc_gemm_run_bytes_f32(get(), activations.data(), activations.size(), rows.count,
                                rows.begin, rows.end, out.data(), out.size(), scratch.data(),
                                scratch.size(), raw(pool)));
  }

  std::string describe() const {
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_gemm_describe(get(), buf, len, length);
    });
  }
};

// Floats [M, K] x packed weights [N, K] -> [M, N].
class WeightOnlyGemm : public Handle<qc_weight_only, qc_weight_only_free> {
 public:
  explicit WeightOnlyGemm(const qc_weight_only_options &options)
      : Handle([&](qc_weight_only **plan) { return qc_weight_only_new(&options, plan); }) {}

  std::size_t scratch_len(std::size_t rows) const {
    std::size_t len = 0;
    check(qc_weight_only_scratch_len(get(), rows, &len));
    return len;
  }

  void run(Floats activations, Range rows, View<float> out, View<float> scratch,
           const Pool *pool = nullptr) const {
    check(qc_weight_only_run_f32(get(), activations.data(), activations.size(), rows.count,
                                 rows.begin, rows.end, out.data(), out.size(), scratch.data(),
                                 scratch.size(), raw(pool)));
  }

  std::string describe() const {
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_weight_only_describe(get(), buf, len, length);
    });
  }
};

// Rows and columns of an output.
struct Size {
  std::size_t height;
  std::size_t width;
};

// Where a plan writes what its finish says: 32-bit integers, floats, halves of 16 bits, words of codes, or bytes.
class Output {
 public:
  template <class Container, class = std::enable_if_t<!std::is_same_v<std::decay_t<Container>, Output>>>
  Output(Container &&out) noexcept : data_(out.data()), size_(out.size()) {
    using Element = std::remove_pointer_t<decltype(out.data())>;
    static_assert(!std::is_const_v<Element>, "an output is written");
    if constexpr (std::is_same_v<Element, std::int32_t>) {
      kinds_ = kind(QC_OUT_I32);
    } else if constexpr (std::is_same_v<Element, float>) {
      kinds_ = kind(QC_OUT_F32);
    } else if constexpr (std::is_same_v<Element, std::uint16_t>) {
      kinds_ = kind(QC_OUT_F16) | kind(QC_OUT_BF16);
    } else if constexpr (std::is_same_v<Element, std::uint32_t>) {
      kinds_ = kind(QC_OUT_CODES);
    } else {
      static_assert(std::is_same_v<Element, std::uint8_t>, "no plan gives such elements");
      kinds_ = kind(QC_OUT_BYTES);
    }
  }

  std::size_t size() const noexcept { return size_; }

  // The elements; throws `std::invalid_argument` if they are not of the kind QC_OUT_...
  void *data_for(std::int32_t output) const {
    if ((kinds_ & kind(output)) == 0) {
      throw std::invalid_argument("out: expected elements of the type that the finish gives");
    }
    return data_;
  }

 private:
  static constexpr unsigned kind(std::int32_t output) noexcept { return 1U << output; }

  void *data_;
  std::size_t size_;
  unsigned kinds_ = 0;
};

// Float images [N, H, W, C] by packed filters [O, KH, KW, C / groups] to [N, OH, OW, O], and what follows.
class FloatConv2d : public Handle<qc_float_conv2d, qc_float_conv2d_free> {
 public:
  explicit FloatConv2d(const qc_float_conv2d_options &options)
      : Handle([&](qc_float_conv2d **conv) { return qc_float_conv2d_new(&options, conv); }),
        output_(options.finish ? options.finish->output : QC_OUT_F32) {}

  Size output_size() const {
    Size size{};
    check(qc_float_conv2d_output_size(get(), &size.height, &size.width));
    return size;
  }

  // Elements of scratch for runs over up to `images` images on `pool`.
  std::size_t scratch_len(std::size_t images, const Pool *pool = nullptr) const {
    std::size_t len = 0;
    check(qc_float_conv2d_scratch_len(get(), images, raw(pool), &len));
    return len;
  }

  void run(Floats images, Output out, View<float> scratch, const Pool *pool = nullptr,
           const qc_residual *residual = nullptr) const {
    check(qc_float_conv2d_run_f32(get(), images.data(), images.size(), residual,
                                  out.data_for(output_), out.size(), scratch.data(),
                                  scratch.size(), raw(pool)));
  }

  std::string describe() const {
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_float_conv2d_describe(get(), buf, len, length);
    });
  }

 private:
  std::int32_t output_;
};

// Images [N, H, W, C] by packed filters [O, KH, KW, C / groups] to [N, OH, OW, O], and what follows.
class Conv2d : public Handle<qc_conv2d, qc_conv2d_free> {
 public:
  explicit Conv2d(const qc_conv2d_options &options)
      : Handle([&](qc_conv2d **conv) { return qc_conv2d_new(&options, conv); }),
        output_(options.finish ? options.finish->output : QC_OUT_I32) {}

  Size output_size() const {
    Size size{};
    check(qc_conv2d_output_size(get(), &size.height, &size.width));
    return size;
  }

  // Elements of scratch for runs on `pool`.
  std::size_t scratch_len(const Pool *pool = nullptr) const {
    std::size_t len = 0;
    check(qc_conv2d_scratch_len(get(), raw(pool), &len));
    return len;
  }

  void run(Words images, Range range, Output out, View<std::int32_t> scratch,
           const Pool *pool = nullptr, const qc_residual *residual = nullptr) const {
    check(qc_conv2d_run(get(), images.data(), images.size(), range.count, range.begin, range.end,
                        residual, out.data_for(output_), out.size(), scratch.data(),
                        scratch.size(), raw(pool)));
  }

  void run(Bytes images, Range range, Output out, View<std::int32_t> scratch,
           const Pool *pool = nullptr, const qc_residual *residual = nullptr) const {
    check(qc_conv2d_run_bytes(get(), images.data(), images.size(), range.count, range.begin,
                              range.end, residual, out.data_for(output_), out.size(),
                              scratch.data(), scratch.size(), raw(pool)));
  }

  std::string describe() const {
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_conv2d_describe(get(), buf, len, length);
    });
  }

 private:
  std::int32_t output_;
};

// Throws `std::invalid_argument` unless elements of this kind are floats of 16 bits.
inline void check_halves(std::int32_t kind) {
  if (kind != QC_KIND_F16 && kind != QC_KIND_BF16) {
    throw std::invalid_argument("kind: expected QC_KIND_F16 or QC_KIND_BF16");
  }
}

// The greatest element of each window, per channel.
class MaxPool : public Handle<qc_max_pool, qc_max_pool_free> {
 public:
  explicit MaxPool(const qc_window &window)
      : Handle([&](qc_max_pool **pool) { return qc_max_pool_new(&window, pool); }) {}

  Size output_size() const {
    Size size{};
    check(qc_max_pool_output_size(get(), &size.height, &size.width));
    return size;
  }

  void run(Words images, std::size_t count, View<std::uint32_t> out,
           const Pool *pool = nullptr) const {
    check(qc_max_pool_run(get(), images.data(), images.size(), count, out.data(), out.size(),
                          raw(pool)));
  }

  void run(Bytes images, std::size_t count, View<std::uint8_t> out,
           const Pool *pool = nullptr) const {
    run_kind(QC_KIND_BYTES, images, count, out, pool);
  }

  void run(Floats images, std::size_t count, View<float> out, const Pool *pool = nullptr) const {
    run_kind(QC_KIND_F32, images, count, out, pool);
  }

  // `kind` is QC_KIND_F16 or QC_KIND_BF16.
  void run(std::int32_t kind, Halves images, std::size_t count, View<std::uint16_t> out,
           const Pool *pool = nullptr) const {
    check_halves(kind);
    run_kind(kind, images, count, out, pool);
  }

 private:
  template <class T>
  void run_kind(std::int32_t kind, View<const T> images, std::size_t count, View<T> out,
                const Pool *pool) const {
    check(qc_max_pool_run_kind(get(), kind, images.data(), images.size(), count, out.data(),
                               out.size(), raw(pool)));
  }
};

// The mean of each window, per channel.
class AveragePool : public Handle<qc_average_pool, qc_average_pool_free> {
 public:
  explicit AveragePool(const qc_window &window)
      : Handle([&](qc_average_pool **pool) { return qc_average_pool_new(&window, pool); }) {}

  Size output_size() const {
    Size size{};
    check(qc_average_pool_output_size(get(), &size.height, &size.width));
    return size;
  }

  void run(Words images, std::size_t count, float scale, View<float> out,
           const Pool *pool = nullptr) const {
    check(qc_average_pool_run_f32(get(), images.data(), images.size(), count, scale, out.data(),
                                  out.size(), raw(pool)));
  }

  void run(Words images, std::size_t count, float scale, const qc_quantizer &quantizer,
           View<std::uint32_t> out, const Pool *pool = nullptr) const {
    check(qc_average_pool_run_codes(get(), images.data(), images.size(), count, scale, &quantizer,
                                    out.data(), out.size(), raw(pool)));
  }

  void run(Bytes images, std::size_t count, float scale, View<float> out,
           const Pool *pool = nullptr) const {
    run_kind(QC_KIND_BYTES, images, count, scale, out, pool);
  }

  void run(Bytes images, std::size_t count, float scale, const qc_quantizer &quantizer,
           View<std::uint32_t> out, const Pool *pool = nullptr) const {
    run_kind(QC_KIND_BYTES, images, count, scale, quantizer, out, pool);
  }

  void run(Floats images, std::size_t count, float scale, View<float> out,
           const Pool *pool = nullptr) const {
    run_kind(QC_KIND_F32, images, count, scale, out, pool);
  }

  void run(Floats images, std::size_t count, float scale, const qc_quantizer &quantizer,
           View<std::uint32_t> out, const Pool *pool = nullptr) const {
    run_kind(QC_KIND_F32, images, count, scale, quantizer, out, pool);
  }

  // `kind` is QC_KIND_F16 or QC_KIND_BF16.
  void run(std::int32_t kind, Halves images, std::size_t count, float scale, View<float> out,
           const Pool *pool = nullptr) const {
    check_halves(kind);
    run_kind(kind, images, count, scale, out, pool);
  }

  void run(std::int32_t kind, Halves images, std::size_t count, float scale,
           const qc_quantizer &quantizer, View<std::uint32_t> out,
           const Pool *pool = nullptr) const {
    check_halves(kind);
    run_kind(kind, images, count, scale, quantizer, out, pool);
  }

 private:
  template <class T>
  void run_kind(std::int32_t kind, View<const T> images, std::size_t count, float scale,
                View<float> out, const Pool *pool) const {
    check(qc_average_pool_run_kind_f32(get(), kind, images.data(), images.size(), count, scale,
                                       out.data(), out.size(), raw(pool)));
  }

  template <class T>
  void run_kind(std::int32_t kind, View<const T> images, std::size_t count, float scale,
                const qc_quantizer &quantizer, View<std::uint32_t> out, const Pool *pool) const {
    check(qc_average_pool_run_kind_codes(get(), kind, images.data(), images.size(), count, scale,
                                         &quantizer, out.data(), out.size(), raw(pool)));
  }
};

// The type of a value, or another struct of results, that `tell(&result)` writes.
template <class Result, class Tell>
Result told(Tell &&tell) {
  Result result{};
  result.struct_size = sizeof result;
  check(tell(&result));
  return result;
}

class Workspace;

// A packed net: images in, logits or other outputs out. Threads may share it, each with a Workspace of its own.
class Model : public Handle<qc_model, qc_model_free> {
 public:
  // Takes what `make(&model)` makes, as `load`, `load_memory` and `ModelBuilder::build` do.
  template <class Make, class = std::enable_if_t<std::is_invocable_v<Make, qc_model **>>>
  explicit Model(Make &&make) : Handle(std::forward<Make>(make)) {}

  static Model load(const std::string &path) {
    return Model([&](qc_model **model) { return qc_model_load(path.c_str(), model); });
  }

  static Model load_memory(Bytes bytes) {
    return Model([&](qc_model **model) {
      return qc_model_load_memory(bytes.data(), bytes.size(), model);
    });
  }

  void save(const std::string &path) const { check(qc_model_save(get(), path.c_str())); }

  // The bytes of its file.
  std::vector<std::uint8_t> to_bytes() const {
    std::size_t length = 0;
    check(qc_model_to_bytes(get(), nullptr, 0, &length));
    std::vector<std::uint8_t> bytes(length);
    check(qc_model_to_bytes(get(), bytes.data(), bytes.size(), &length));
    return bytes;
  }

  qc_model_info info() const {
    return told<qc_model_info>([&](qc_model_info *info) { return qc_model_get_info(get(), info); });
  }

  qc_value_type input_type() const {
    return told<qc_value_type>([&](qc_value_type *type) { return qc_model_input_type(get(), type); });
  }

  qc_value_type output_type(std::size_t index) const {
    return told<qc_value_type>(
        [&](qc_value_type *type) { return qc_model_output_type(get(), index, type); });
  }

  // The memory of a Workspace of these arguments, and of the weights.
  qc_memory memory(std::size_t images = 1, std::size_t threads = 1,
                   std::int32_t mode = QC_MODE_LATENCY) const {
    return told<qc_memory>([&](qc_memory *memory) {
      return qc_model_memory(get(), images, threads, mode, memory);
    });
  }

  // A line a node.
  std::string describe() const {
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_model_describe(get(), buf, len, length);
    });
  }

  // Seconds of each node for an image that no run on one thread can beat by much, `images` at a time.
  std::vector<float> predict(std::size_t images = 1) const {
    std::vector<float> seconds(info().nodes);
    check(qc_model_predict(get(), images, seconds.data(), seconds.size()));
    return seconds;
  }

  // Seconds of each node for all images, medians of `runs` runs.
  inline std::vector<float> profile(Bytes images, std::size_t runs, Workspace &workspace,
                                    const Pool *pool = nullptr) const;
  inline std::vector<float> profile(Floats images, std::size_t runs, Workspace &workspace,
                                    const Pool *pool = nullptr) const;
  inline std::vector<float> profile(Halves images, std::size_t runs, Workspace &workspace,
                                    const Pool *pool = nullptr) const;

  // A line a node: what `profile` measured for `images` images beside what `predict` gave, or nothing.
  std::string report(Floats measured, Floats predicted, std::size_t images) const {
    if (predicted.size() != 0 && predicted.size() != measured.size()) {
      throw std::invalid_argument("predicted: expected as many as were measured, or none");
    }
    const float *bounds = predicted.size() != 0 ? predicted.data() : nullptr;
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_model_report(get(), measured.data(), bounds, measured.size(), images, buf, len,
                             length);
    });
  }

  // The floats of the only output, for images of codes a byte each.
  inline void run(Bytes images, View<float> logits, Workspace &workspace,
                  const Pool *pool = nullptr) const;

  // The same for images of floats.
  inline void run(Floats images, View<float> logits, Workspace &workspace,
                  const Pool *pool = nullptr) const;

  // All outputs.
  inline void run(Bytes images, View<const qc_output> outputs, Workspace &workspace,
                  const Pool *pool = nullptr) const;
  inline void run(Floats images, View<const qc_output> outputs, Workspace &workspace,
                  const Pool *pool = nullptr) const;
  inline void run(Halves images, View<const qc_output> outputs, Workspace &workspace,
                  const Pool *pool = nullptr) const;

 private:
  // C takes images without a type; here they have one, so it is compared.
  void check_kind(std::int32_t kind) const {
    if (input_type().kind != kind) {
      throw std::invalid_argument("images: expected elements of the type that the model takes");
    }
  }

  // Which of the two kinds of 16 bits the images are, the model says.
  std::int32_t kind_of_halves() const {
    return input_type().kind == QC_KIND_BF16 ? QC_KIND_BF16 : QC_KIND_F16;
  }

  inline void run_outputs(std::int32_t kind, const void *images, std::size_t len,
                          View<const qc_output> outputs, Workspace &workspace,
                          const Pool *pool) const;
  inline std::vector<float> profile_kind(std::int32_t kind, const void *images, std::size_t len,
                                         std::size_t runs, Workspace &workspace,
                                         const Pool *pool) const;
};

// The memory of runs of a model, one at a time; `images` at a time on `threads` threads.
class Workspace : public Handle<qc_workspace, qc_workspace_free> {
 public:
  explicit Workspace(const Model &model, std::size_t images = 1, std::size_t threads = 1,
                     std::int32_t mode = QC_MODE_LATENCY)
      : Handle([&](qc_workspace **workspace) {
          return qc_workspace_new(model.get(), images, threads, mode, workspace);
        }) {}

  std::size_t bytes() const {
    std::size_t bytes = 0;
    check(qc_workspace_bytes(get(), &bytes));
    return bytes;
  }
};

inline void Model::run(Bytes images, View<float> logits, Workspace &workspace,
                       const Pool *pool) const {
  check(qc_model_run(get(), images.data(), images.size(), logits.data(), logits.size(),
                     workspace.get(), raw(pool)));
}

inline void Model::run(Floats images, View<float> logits, Workspace &workspace,
                       const Pool *pool) const {
  check(qc_model_run_f32(get(), images.data(), images.size(), logits.data(), logits.size(),
                         workspace.get(), raw(pool)));
}

inline void Model::run(Bytes images, View<const qc_output> outputs, Workspace &workspace,
                       const Pool *pool) const {
  run_outputs(QC_KIND_BYTES, images.data(), images.size(), outputs, workspace, pool);
}

inline void Model::run(Floats images, View<const qc_output> outputs, Workspace &workspace,
                       const Pool *pool) const {
  run_outputs(QC_KIND_F32, images.data(), images.size(), outputs, workspace, pool);
}

inline void Model::run(Halves images, View<const qc_output> outputs, Workspace &workspace,
                       const Pool *pool) const {
  run_outputs(kind_of_halves(), images.data(), images.size(), outputs, workspace, pool);
}

inline void Model::run_outputs(std::int32_t kind, const void *images, std::size_t len,
                               View<const qc_output> outputs, Workspace &workspace,
                               const Pool *pool) const {
  check_kind(kind);
  check(qc_model_run_outputs(get(), images, len, outputs.data(), outputs.size(), workspace.get(),
                             raw(pool)));
}

inline std::vector<float> Model::profile(Bytes images, std::size_t runs, Workspace &workspace,
                                         const Pool *pool) const {
  return profile_kind(QC_KIND_BYTES, images.data(), images.size(), runs, workspace, pool);
}

inline std::vector<float> Model::profile(Floats images, std::size_t runs, Workspace &workspace,
                                         const Pool *pool) const {
  return profile_kind(QC_KIND_F32, images.data(), images.size(), runs, workspace, pool);
}

inline std::vector<float> Model::profile(Halves images, std::size_t runs, Workspace &workspace,
                                         const Pool *pool) const {
  return profile_kind(kind_of_halves(), images.data(), images.size(), runs, workspace, pool);
}

inline std::vector<float> Model::profile_kind(std::int32_t kind, const void *images,
                                              std::size_t len, std::size_t runs,
                                              Workspace &workspace, const Pool *pool) const {
  check_kind(kind);
  std::vector<float> seconds(info().nodes);
  check(qc_model_profile(get(), images, len, runs, seconds.data(), seconds.size(),
                         workspace.get(), raw(pool)));
  return seconds;
}

// A value of a model that is being built: the images, or what a node makes.
struct Value {
  std::size_t index = 0;
};

// A value as the second summand, and the float that its integer 1 stands for; 1 for floats.
struct Scaled {
  Value value;
  float scale;

  constexpr Scaled(Value of, float one = 1.0F) noexcept : value(of), scale(one) {}
};

// A model that is being built, node after node.
class ModelBuilder : public Handle<qc_model_builder, qc_model_builder_free> {
 public:
  explicit ModelBuilder(const qc_value_type &image, const char *isa = nullptr)
      : Handle([&](qc_model_builder **builder) {
          return qc_model_builder_new(&image, isa, builder);
        }) {}

  Value images() const noexcept { return {}; }

  qc_value_type type_of(Value value) const {
    return told<qc_value_type>([&](qc_value_type *type) {
      return qc_model_builder_type_of(get(), value.index, type);
    });
  }

  // Gives the next node a name.
  ModelBuilder &name(const std::string &name) {
    check(qc_model_builder_name(get(), name.c_str()));
    return *this;
  }

  Value conv(Value x, const qc_conv2d_options &options) {
    return made(qc_model_builder_conv, x.index, &options);
  }
  Value conv(Value x, const qc_conv2d_options &options, Scaled residual) {
    return made(qc_model_builder_conv_residual, x.index, &options, residual.value.index,
                residual.scale);
  }

  Value linear(Value x, const qc_conv2d_options &options) {
    return made(qc_model_builder_linear, x.index, &options);
  }
  Value linear(Value x, const qc_conv2d_options &options, Scaled residual) {
    return made(qc_model_builder_linear_residual, x.index, &options, residual.value.index,
                residual.scale);
  }

  Value float_conv(Value x, const qc_weight_only_options &weights, const qc_window &window) {
    return made(qc_model_builder_float_conv, x.index, &weights, &window);
  }
  Value float_linear(Value x, const qc_weight_only_options &weights) {
    return made(qc_model_builder_float_linear, x.index, &weights);
  }

  Value apply(Value x, const qc_finish &finish) {
    return made(qc_model_builder_apply, x.index, &finish);
  }
  Value add(Value a, Scaled b, const qc_finish &finish) {
    return made(qc_model_builder_add, a.index, b.value.index, b.scale, &finish);
  }

  Value quantize(Value x, const qc_quantizer &quantizer) {
    return made(qc_model_builder_quantize, x.index, &quantizer);
  }
  Value quantize_bytes(Value x, const qc_quantizer &quantizer) {
    return made(qc_model_builder_quantize_bytes, x.index, &quantizer);
  }
  Value dequantize(Value x, float scale) {
    return made(qc_model_builder_dequantize, x.index, scale);
  }

  Value max_pool(Value x, const qc_window &window) {
    return made(qc_model_builder_max_pool, x.index, &window);
  }
  // Floats leave, or codes if there is a quantizer.
  Value average_pool(Value x, const qc_window &window, float scale,
                     const qc_quantizer *quantizer = nullptr) {
    return made(qc_model_builder_average_pool, x.index, &window, scale, quantizer);
  }
  Value global_average_pool(Value x, float scale, const qc_quantizer *quantizer = nullptr) {
    return made(qc_model_builder_global_average_pool, x.index, scale, quantizer);
  }

  Value concat(const std::vector<Value> &values) {
    const auto all = indices(values);
    return made(qc_model_builder_concat, all.data(), all.size());
  }
  Value flatten(Value x) { return made(qc_model_builder_flatten, x.index); }
  Value up_sample(Value x, std::size_t vertical, std::size_t horizontal) {
    return made(qc_model_builder_up_sample, x.index, vertical, horizontal);
  }

  // The model with these outputs; the builder is used up.
  Model build(const std::vector<Value> &outputs) {
    const auto all = indices(outputs);
    return Model([&](qc_model **model) {
      return qc_model_builder_build(get(), all.data(), all.size(), model);
    });
  }

 private:
  // The value that a call of C makes of these arguments.
  template <class... Parameters, class... Arguments>
  Value made(std::int32_t (*call)(qc_model_builder *, Parameters...), Arguments... arguments) {
    Value value;
    check(call(get(), arguments..., &value.index));
    return value;
  }

  static std::vector<std::size_t> indices(const std::vector<Value> &values) {
    std::vector<std::size_t> all;
    for (const Value value : values) all.push_back(value.index);
    return all;
  }
};

// What a batch or a test scored: the mean loss, and how many were right.
struct Score {
  float loss = 0;
  std::size_t correct = 0;
};

inline qc_trainer_options trainer_options() { return filled(qc_trainer_options_init); }

// A net in training: by whole epochs, or step by step.
class Trainer : public Handle<qc_trainer, qc_trainer_free> {
 public:
  // By the recipe of that name or file, with the fields of `changes`, TOML, in the place of its own.
  Trainer(const std::string &recipe, const std::string &changes, const qc_trainer_options &options)
      : Handle([&](qc_trainer **trainer) {
          return qc_trainer_new(recipe.c_str(), changes.c_str(), &options, trainer);
        }) {}

  // As the checkpoint at `path` holds it, for `images` training images in an epoch.
  static Trainer resume(const std::string &path, std::size_t images) {
    return Trainer(
        [&](qc_trainer **trainer) { return qc_trainer_resume(path.c_str(), images, trainer); });
  }

  void save(const std::string &path) const { check(qc_trainer_save(get(), path.c_str())); }

  Score step(Bytes images, Bytes labels, const Pool *pool = nullptr) {
    check_images(images, labels.size());
    Score score;
    check(qc_trainer_step(get(), images.data(), labels.data(), labels.size(), &score.loss,
                          &score.correct, raw(pool)));
    return score;
  }

  qc_epoch_report end_epoch() {
    return told<qc_epoch_report>(
        [&](qc_epoch_report *report) { return qc_trainer_end_epoch(get(), report); });
  }

  // A whole epoch, in the recipe's order, with its shifts and mirrors.
  qc_epoch_report epoch(Bytes images, Bytes labels, const Pool *pool = nullptr) {
    check_images(images, labels.size());
    return told<qc_epoch_report>([&](qc_epoch_report *report) {
      return qc_trainer_epoch(get(), images.data(), labels.data(), labels.size(), report,
                              raw(pool));
    });
  }

  void reestimate(Bytes images, std::size_t count, const Pool *pool = nullptr) {
    check_images(images, count);
    check(qc_trainer_reestimate(get(), images.data(), count, raw(pool)));
  }

  Score evaluate(Bytes images, Bytes labels, const Pool *pool = nullptr) const {
    check_images(images, labels.size());
    Score score;
    check(qc_trainer_evaluate(get(), images.data(), labels.data(), labels.size(), &score.loss,
                              &score.correct, raw(pool)));
    return score;
  }

  // Logits [count, classes].
  std::vector<float> predict(Bytes images, std::size_t count, const Pool *pool = nullptr) const {
    check_images(images, count);
    std::vector<float> logits(count * info().classes);
    check(qc_trainer_predict(get(), images.data(), count, logits.data(), logits.size(), raw(pool)));
    return logits;
  }

  Model freeze() const {
    return Model([&](qc_model **model) { return qc_trainer_freeze(get(), model); });
  }

  qc_trainer_info info() const {
    return told<qc_trainer_info>(
        [&](qc_trainer_info *info) { return qc_trainer_get_info(get(), info); });
  }

  // A line of the net, then one of each tensor.
  std::string describe() const {
    return text_of([&](char *buf, std::size_t len, std::size_t *length) {
      return qc_trainer_describe(get(), buf, len, length);
    });
  }

  // The elements of a tensor, by its name.
  std::vector<float> tensor(const std::string &name) const {
    std::size_t length = 0;
    check(qc_trainer_tensor(get(), name.c_str(), nullptr, 0, &length));
    std::vector<float> values(length);
    check(qc_trainer_tensor(get(), name.c_str(), values.data(), values.size(), &length));
    return values;
  }

 private:
  template <class Make, class = std::enable_if_t<std::is_invocable_v<Make, qc_trainer **>>>
  explicit Trainer(Make &&make) : Handle(std::forward<Make>(make)) {}

  // C takes the number of images alone; here their length is known, so it is compared.
  void check_images(Bytes images, std::size_t count) const {
    const qc_trainer_info about = info();
    const std::size_t image = about.height * about.width * about.channels;
    if (images.size() % image != 0 || images.size() / image != count) {
      throw std::invalid_argument("images: expected as many as there are labels");
    }
  }
};

// Images [count, 28, 28, 1] and their labels.
struct Digits {
  std::vector<std::uint8_t> images;
  std::vector<std::uint8_t> labels;
};

// The built-in digits: `half` is QC_DIGITS_TRAIN or QC_DIGITS_TEST.
inline Digits digits(std::uint64_t seed, std::int32_t half, std::size_t count,
                     const Pool *pool = nullptr) {
  Digits digits{std::vector<std::uint8_t>(count * 28 * 28), std::vector<std::uint8_t>(count)};
  check(qc_digits(seed, half, count, digits.images.data(), digits.labels.data(),
                  raw(pool)));
  return digits;
}

}  // namespace qcore

#endif  // QCORE_HPP
