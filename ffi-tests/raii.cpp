// The C header from C++17: handles in unique_ptr, errors as exceptions.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "qcore.h"

namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T *handle) const {
    Free(handle);
  }
};

using Gemm = std::unique_ptr<qc_gemm, Deleter<qc_gemm_free>>;
using Pool = std::unique_ptr<qc_pool, Deleter<qc_pool_free>>;

void check(std::int32_t status) {
  if (status != QC_OK) {
    throw std::runtime_error(std::string(qc_status_name(status)) + ": " + qc_last_error());
  }
}

std::vector<std::uint32_t> pack(std::int32_t encoding, std::size_t rows, std::size_t cols,
                                const std::vector<std::int32_t> &values) {
  std::size_t count = 0;
  check(qc_packed_words(encoding, rows, cols, &count));
  std::vector<std::uint32_t> words(count);
  check(qc_pack(encoding, rows, cols, values.data(), words.data(), words.size()));
  return words;
}

Gemm plan(const std::vector<std::uint32_t> &weights, std::size_t n, std::size_t k) {
  qc_gemm_options options;
  check(qc_gemm_options_init(sizeof options, &options));
  options.activation_encoding = QC_U2;
  options.n = n;
  options.k = k;
  options.weights = weights.data();
  options.weight_words = weights.size();
  qc_gemm *gemm = nullptr;
  check(qc_gemm_new(&options, &gemm));
  return Gemm(gemm);
}

}  // namespace

int main() {
  try {
    qc_pool *made = nullptr;
    check(qc_pool_new(2, &made));
    const Pool pool(made);
    const auto weights = pack(QC_BIPOLAR, 2, 3, {1, -1, 1, -1, -1, -1});
    const auto activations = pack(QC_U2, 2, 3, {3, 2, 1, 0, 1, 3});
    const Gemm gemm = plan(weights, 2, 3);
    std::vector<std::int32_t> out(4), scratch(2);
    check(qc_gemm_run_i32(gemm.get(), activations.data(), activations.size(), 2, 0, 2, out.data(),
                          out.size(), scratch.data(), scratch.size(), pool.get()));
    if (out != std::vector<std::int32_t>{2, -6, 2, -4}) {
      std::puts("the product is wrong");
      return 1;
    }
    try {
      plan(weights, 2, 40);
      std::puts("weights that are too short were taken");
      return 1;
    } catch (const std::runtime_error &error) {
      std::printf("raii: %s\n", error.what());
    }
  } catch (const std::exception &error) {
    std::printf("unexpected: %s\n", error.what());
    return 1;
  }
  return 0;
}
