/*
 * qcore for C++17: handles that free themselves, errors as exceptions.
 *
 * A layer over qcore.h that adds nothing to it; the header says what each call takes and refuses. Options are the structs of C,
 * filled with their defaults by `qcore::defaults<qc_gemm_options>()`. A run takes pointers with lengths as spans: anything
 * with `data()` and `size()`, or a pointer and a length. Objects can be moved but not copied; const ones may be shared by threads,
 * but for `Workspace` and `ModelBuilder`, which are for one thread at a time.
 */

#ifndef QCORE_HPP
#define QCORE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "qcore.h"

namespace qcore {

/** A status other than QC_OK, with its text. */
class Error : public std::runtime_error {
 public:
  explicit Error(std::int32_t status) : std::runtime_error(qc_last_error()), status_(status) {}

  /** QC_ERROR_... */
  std::int32_t status() const noexcept { return status_; }

 private:
  std::int32_t status_;
};

/** Throws unless the status is QC_OK. */
inline void check(std::int32_t status) {
  if (status != QC_OK) throw Error(status);
}

/** Elements that somebody else holds. */
template <class T>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  /** Of a vector, an array, a std::span, ... */
  template <class C, class = std::enable_if_t<std::is_convertible_v<decltype(std::declval<C &>().data()), T *>>>
  constexpr Span(C &&container) noexcept : data_(container.data()), size_(container.size()) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

namespace detail {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T *handle) const noexcept {
    Free(handle);
  }
};

template <class T, auto Free>
using Handle = std::unique_ptr<T, Deleter<Free>>;

/** The handle that a call makes. */
template <class T, auto Free, class Call>
Handle<T, Free> make(Call &&call) {
  T *made = nullptr;
  check(call(&made));
  return Handle<T, Free>(made);
}

/** The text of a call that copies as snprintf does. */
template <class Call>
std::string text(Call &&call) {
  std::size_t length = 0;
  check(call(static_cast<char *>(nullptr), std::size_t{0}, &length));
  std::string text(length + 1, '\0');
  check(call(text.data(), text.size(), &length));
  text.resize(length);
  return text;
}

inline std::int32_t init(qc_gemm_options *o) { return qc_gemm_options_init(sizeof *o, o); }
inline std::int32_t init(qc_weight_only_options *o) { return qc_weight_only_options_init(sizeof *o, o); }
inline std::int32_t init(qc_conv2d_options *o) { return qc_conv2d_options_init(sizeof *o, o); }
inline std::int32_t init(qc_window *o) { return qc_window_init(sizeof *o, o); }
inline std::int32_t init(qc_finish *o) { return qc_finish_init(sizeof *o, o); }
inline std::int32_t init(qc_residual *o) { return qc_residual_init(sizeof *o, o); }
inline std::int32_t init(qc_quantizer *o) { return qc_quantizer_init(sizeof *o, o); }
inline std::int32_t init(qc_value_type *o) { return qc_value_type_init(sizeof *o, o); }

}  // namespace detail

/** A struct of options with its defaults. */
template <class Options>
Options defaults() {
  Options options;
  check(detail::init(&options));
  return options;
}

/** Integers [rows, cols] as packed words. */
inline std::vector<std::uint32_t> pack(std::int32_t encoding, std::size_t rows, std::size_t cols,
                                       Span<const std::int32_t> values) {
  std::size_t count = 0;
  check(qc_packed_words(encoding, rows, cols, &count));
  if (values.size() != rows * cols) throw std::invalid_argument("qcore::pack: values are not rows x cols");
  std::vector<std::uint32_t> words(count);
  check(qc_pack(encoding, rows, cols, values.data(), words.data(), words.size()));
  return words;
}

/** Threads for runs. */
class Pool {
 public:
  /** 0 asks for a thread a processor. */
  explicit Pool(std::size_t threads = 0)
      : handle_(detail::make<qc_pool, qc_pool_free>([&](qc_pool **out) { return qc_pool_new(threads, out); })) {}

  const qc_pool *get() const noexcept { return handle_.get(); }

 private:
  detail::Handle<qc_pool, qc_pool_free> handle_;
};

/** The handle of a pool, or of none. */
inline const qc_pool *handle_of(const Pool *pool) noexcept { return pool == nullptr ? nullptr : pool->get(); }

/** A product of packed weights and codes. */
class Gemm {
 public:
  explicit Gemm(const qc_gemm_options &options)
      : handle_(detail::make<qc_gemm, qc_gemm_free>([&](qc_gemm **out) { return qc_gemm_new(&options, out); })) {}

  /** Elements of scratch for a run over so many rows. */
  std::size_t scratch_len(std::size_t rows) const {
    std::size_t len = 0;
    check(qc_gemm_scratch_len(get(), rows, &len));
    return len;
  }

  /** Sums of rows begin .. end - 1 of `rows` packed rows. */
  void run(Span<const std::uint32_t> words, std::size_t rows, std::size_t begin, std::size_t end,
           Span<std::int32_t> out, Span<std::int32_t> scratch, const Pool *pool = nullptr) const {
    check(qc_gemm_run_i32(get(), words.data(), words.size(), rows, begin, end, out.data(), out.size(), scratch.data(),
                          scratch.size(), handle_of(pool)));
  }

  /** The same in floats. */
  void run(Span<const std::uint32_t> words, std::size_t rows, std::size_t begin, std::size_t end, Span<float> out,
           Span<std::int32_t> scratch, const Pool *pool = nullptr) const {
    check(qc_gemm_run_f32(get(), words.data(), words.size(), rows, begin, end, out.data(), out.size(), scratch.data(),
                          scratch.size(), handle_of(pool)));
  }

  std::string describe() const {
    return detail::text([&](char *b, std::size_t n, std::size_t *l) { return qc_gemm_describe(get(), b, n, l); });
  }

  const qc_gemm *get() const noexcept { return handle_.get(); }

 private:
  detail::Handle<qc_gemm, qc_gemm_free> handle_;
};

/** A convolution of packed images, or a linear layer. */
class Conv2d {
 public:
  explicit Conv2d(const qc_conv2d_options &options)
      : handle_(detail::make<qc_conv2d, qc_conv2d_free>(
            [&](qc_conv2d **out) { return qc_conv2d_new(&options, out); })) {}

  /** Rows and columns of the output. */
  std::pair<std::size_t, std::size_t> output_size() const {
    std::pair<std::size_t, std::size_t> size;
    check(qc_conv2d_output_size(get(), &size.first, &size.second));
    return size;
  }

  std::size_t scratch_len(const Pool *pool = nullptr) const {
    std::size_t len = 0;
    check(qc_conv2d_scratch_len(get(), handle_of(pool), &len));
    return len;
  }

  /** The output of images begin .. end - 1 of `images` packed images; `out` has elements of what the plan's output is of. */
  template <class Out>
  void run(Span<const std::uint32_t> words, std::size_t images, std::size_t begin, std::size_t end, Out &&out,
           Span<std::int32_t> scratch, const qc_residual *residual = nullptr, const Pool *pool = nullptr) const {
    check(qc_conv2d_run(get(), words.data(), words.size(), images, begin, end, residual, out.data(), out.size(),
                        scratch.data(), scratch.size(), handle_of(pool)));
  }

  /** The same for codes a byte each. */
  template <class Out>
  void run(Span<const std::uint8_t> bytes, std::size_t images, std::size_t begin, std::size_t end, Out &&out,
           Span<std::int32_t> scratch, const qc_residual *residual = nullptr, const Pool *pool = nullptr) const {
    check(qc_conv2d_run_bytes(get(), bytes.data(), bytes.size(), images, begin, end, residual, out.data(), out.size(),
                              scratch.data(), scratch.size(), handle_of(pool)));
  }

  std::string describe() const {
    return detail::text([&](char *b, std::size_t n, std::size_t *l) { return qc_conv2d_describe(get(), b, n, l); });
  }

  const qc_conv2d *get() const noexcept { return handle_.get(); }

 private:
  detail::Handle<qc_conv2d, qc_conv2d_free> handle_;
};

class Workspace;

/** A packed net. */
class Model {
 public:
  static Model load(const std::string &path) {
    return Model(make([&](qc_model **out) { return qc_model_load(path.c_str(), out); }));
  }

  static Model load_memory(Span<const std::uint8_t> bytes) {
    return Model(make([&](qc_model **out) { return qc_model_load_memory(bytes.data(), bytes.size(), out); }));
  }

  void save(const std::string &path) const { check(qc_model_save(get(), path.c_str())); }

  std::vector<std::uint8_t> to_bytes() const {
    std::size_t length = 0;
    check(qc_model_to_bytes(get(), nullptr, 0, &length));
    std::vector<std::uint8_t> bytes(length);
    check(qc_model_to_bytes(get(), bytes.data(), bytes.size(), &length));
    return bytes;
  }

  qc_model_info info() const {
    qc_model_info info;
    info.struct_size = sizeof info;
    check(qc_model_get_info(get(), &info));
    return info;
  }

  qc_value_type input_type() const {
    qc_value_type type;
    type.struct_size = sizeof type;
    check(qc_model_input_type(get(), &type));
    return type;
  }

  qc_value_type output_type(std::size_t index) const {
    qc_value_type type;
    type.struct_size = sizeof type;
    check(qc_model_output_type(get(), index, &type));
    return type;
  }

  std::string describe() const {
    return detail::text([&](char *b, std::size_t n, std::size_t *l) { return qc_model_describe(get(), b, n, l); });
  }

  /** The floats of the only output, for images of codes a byte each. */
  inline void run(Span<const std::uint8_t> images, Span<float> logits, Workspace &workspace,
                  const Pool *pool = nullptr) const;

  /** The floats of the only output, for images of floats. */
  inline void run(Span<const float> images, Span<float> logits, Workspace &workspace, const Pool *pool = nullptr) const;

  /** All outputs, for `len` bytes or floats, as the model takes. */
  inline void run(const void *images, std::size_t len, Span<const qc_output> outputs, Workspace &workspace,
                  const Pool *pool = nullptr) const;

  const qc_model *get() const noexcept { return handle_.get(); }

 private:
  friend class ModelBuilder;
  using Handle = detail::Handle<qc_model, qc_model_free>;

  explicit Model(Handle handle) : handle_(std::move(handle)) {}

  template <class Call>
  static Handle make(Call &&call) {
    return detail::make<qc_model, qc_model_free>(std::forward<Call>(call));
  }

  Handle handle_;
};

/** The memory of one run at a time. */
class Workspace {
 public:
  /** For so many images at a time on so many threads. */
  explicit Workspace(const Model &model, std::size_t images, std::size_t threads = 1,
                     std::int32_t mode = QC_MODE_LATENCY)
      : handle_(detail::make<qc_workspace, qc_workspace_free>(
            [&](qc_workspace **out) { return qc_workspace_new(model.get(), images, threads, mode, out); })) {}

  std::size_t bytes() const {
    std::size_t bytes = 0;
    check(qc_workspace_bytes(handle_.get(), &bytes));
    return bytes;
  }

  qc_workspace *get() noexcept { return handle_.get(); }

 private:
  detail::Handle<qc_workspace, qc_workspace_free> handle_;
};

inline void Model::run(Span<const std::uint8_t> images, Span<float> logits, Workspace &workspace,
                       const Pool *pool) const {
  check(qc_model_run(get(), images.data(), images.size(), logits.data(), logits.size(), workspace.get(),
                     handle_of(pool)));
}

inline void Model::run(Span<const float> images, Span<float> logits, Workspace &workspace, const Pool *pool) const {
  check(qc_model_run_f32(get(), images.data(), images.size(), logits.data(), logits.size(), workspace.get(),
                         handle_of(pool)));
}

inline void Model::run(const void *images, std::size_t len, Span<const qc_output> outputs, Workspace &workspace,
                       const Pool *pool) const {
  check(qc_model_run_outputs(get(), images, len, outputs.data(), outputs.size(), workspace.get(), handle_of(pool)));
}

/** A value of a model that is being built. */
struct Value {
  std::size_t index = 0;
};

/** A value as the second summand, and the float that its integer 1 stands for; 1 for floats. */
struct Scaled {
  Value value;
  float scale = 1.0f;
};

/** A model that is being built, node after node. */
class ModelBuilder {
 public:
  explicit ModelBuilder(const qc_value_type &image, const char *isa = nullptr)
      : handle_(detail::make<qc_model_builder, qc_model_builder_free>(
            [&](qc_model_builder **out) { return qc_model_builder_new(&image, isa, out); })) {}

  /** The images. */
  Value image() const noexcept { return {}; }

  qc_value_type type_of(Value value) const {
    qc_value_type type;
    type.struct_size = sizeof type;
    check(qc_model_builder_type_of(handle_.get(), value.index, &type));
    return type;
  }

  /** Gives the next node a name. */
  ModelBuilder &name(const std::string &name) {
    check(qc_model_builder_name(handle_.get(), name.c_str()));
    return *this;
  }

  Value conv(Value x, const qc_conv2d_options &options) {
    return node([&](std::size_t *v) { return qc_model_builder_conv(get(), x.index, &options, v); });
  }

  Value conv(Value x, const qc_conv2d_options &options, Scaled residual) {
    return node([&](std::size_t *v) {
      return qc_model_builder_conv_residual(get(), x.index, &options, residual.value.index, residual.scale, v);
    });
  }

  Value linear(Value x, const qc_conv2d_options &options) {
    return node([&](std::size_t *v) { return qc_model_builder_linear(get(), x.index, &options, v); });
  }

  Value linear(Value x, const qc_conv2d_options &options, Scaled residual) {
    return node([&](std::size_t *v) {
      return qc_model_builder_linear_residual(get(), x.index, &options, residual.value.index, residual.scale, v);
    });
  }

  Value float_conv(Value x, const qc_weight_only_options &weights, const qc_window &window) {
    return node([&](std::size_t *v) { return qc_model_builder_float_conv(get(), x.index, &weights, &window, v); });
  }

  Value float_linear(Value x, const qc_weight_only_options &weights) {
    return node([&](std::size_t *v) { return qc_model_builder_float_linear(get(), x.index, &weights, v); });
  }

  Value apply(Value x, const qc_finish &finish) {
    return node([&](std::size_t *v) { return qc_model_builder_apply(get(), x.index, &finish, v); });
  }

  Value add(Value a, Scaled b, const qc_finish &finish) {
    return node(
        [&](std::size_t *v) { return qc_model_builder_add(get(), a.index, b.value.index, b.scale, &finish, v); });
  }

  Value quantize(Value x, const qc_quantizer &quantizer) {
    return node([&](std::size_t *v) { return qc_model_builder_quantize(get(), x.index, &quantizer, v); });
  }

  Value quantize_bytes(Value x, const qc_quantizer &quantizer) {
    return node([&](std::size_t *v) { return qc_model_builder_quantize_bytes(get(), x.index, &quantizer, v); });
  }

  Value dequantize(Value x, float scale) {
    return node([&](std::size_t *v) { return qc_model_builder_dequantize(get(), x.index, scale, v); });
  }

  Value max_pool(Value x, const qc_window &window) {
    return node([&](std::size_t *v) { return qc_model_builder_max_pool(get(), x.index, &window, v); });
  }

  /** Floats leave, or the codes of a quantizer. */
  Value average_pool(Value x, const qc_window &window, float scale, const qc_quantizer *quantizer = nullptr) {
    return node(
        [&](std::size_t *v) { return qc_model_builder_average_pool(get(), x.index, &window, scale, quantizer, v); });
  }

  Value global_average_pool(Value x, float scale, const qc_quantizer *quantizer = nullptr) {
    return node(
        [&](std::size_t *v) { return qc_model_builder_global_average_pool(get(), x.index, scale, quantizer, v); });
  }

  Value concat(const std::vector<Value> &values) {
    const auto all = indices(values);
    return node([&](std::size_t *v) { return qc_model_builder_concat(get(), all.data(), all.size(), v); });
  }

  Value flatten(Value x) {
    return node([&](std::size_t *v) { return qc_model_builder_flatten(get(), x.index, v); });
  }

  Value up_sample(Value x, std::size_t vertical, std::size_t horizontal) {
    return node([&](std::size_t *v) { return qc_model_builder_up_sample(get(), x.index, vertical, horizontal, v); });
  }

  /** The model with these outputs; the builder is used up. */
  Model build(const std::vector<Value> &outputs) {
    const auto all = indices(outputs);
    return Model(Model::make(
        [&](qc_model **out) { return qc_model_builder_build(get(), all.data(), all.size(), out); }));
  }

  qc_model_builder *get() noexcept { return handle_.get(); }

 private:
  template <class Call>
  Value node(Call &&call) {
    Value value;
    check(call(&value.index));
    return value;
  }

  static std::vector<std::size_t> indices(const std::vector<Value> &values) {
    std::vector<std::size_t> all;
    for (const Value value : values) all.push_back(value.index);
    return all;
  }

  detail::Handle<qc_model_builder, qc_model_builder_free> handle_;
};

}  // namespace qcore

#endif
