// qcore.hpp: plans made, run and moved; errors as exceptions.

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "qcore.hpp"

namespace {

qcore::Gemm gemm(const std::vector<std::uint32_t> &weights, std::size_t n, std::size_t k) {
  qc_gemm_options options = qcore::gemm_options();
  options.activation_encoding = QC_U2;
  options.n = n;
  options.k = k;
  options.weights = weights.data();
  options.weight_words = weights.size();
  return qcore::Gemm(options);
}

// Two channels of a 1 x 3 filter over a row of four pixels of one channel, to floats; then the means of all pixels.
std::vector<float> convolved(const qcore::Pool &pool) {
  const std::int32_t filters[] = {1, 1, 1, -1, 1, -1};
  const std::int32_t pixels[] = {3, 0, 2, 1};
  const auto packed = qcore::pack(QC_BIPOLAR, 2, 3, filters);
  const std::vector<float> scale{0.5F, 1.0F}, bias{0.0F, 1.0F};
  qc_finish finish = qcore::finish();
  finish.output = QC_OUT_F32;
  finish.scale = scale.data();
  finish.bias = bias.data();
  qc_conv2d_options options = qcore::conv2d_options();
  options.activation_encoding = QC_U2;
  options.output_channels = 2;
  options.channels = 1;
  options.width = 4;
  options.kernel[1] = 3;
  options.padding[1] = options.padding[3] = 1;
  options.filters = packed.data();
  options.filter_words = packed.size();
  options.finish = &finish;
  const qcore::Conv2d conv(options);
  std::vector<float> out(conv.output_size().width * 2);
  std::vector<std::int32_t> scratch(conv.scratch_len(&pool));
  conv.run(qcore::pack(QC_U2, 4, 1, pixels), 1, out, scratch, &pool);
  try {
    std::vector<std::int32_t> sums(out.size());
    conv.run(qcore::pack(QC_U2, 4, 1, pixels), 1, sums, scratch, &pool);
    throw std::runtime_error("integers were taken for floats");
  } catch (const std::invalid_argument &) {
  }
  return out;
}

}  // namespace

int main() {
  try {
    const qcore::Pool pool(2);
    const std::vector<std::int32_t> w{1, -1, 1, -1, -1, -1}, a{3, 2, 1, 0, 1, 3};
    const auto weights = qcore::pack(QC_BIPOLAR, 2, 3, w);
    const auto activations = qcore::pack(QC_U2, 2, 3, a);
    qcore::Gemm made = gemm(weights, 2, 3);
    const qcore::Gemm plan = std::move(made);
    std::vector<std::int32_t> out(4), scratch(plan.scratch_len(2));
    plan.run(activations, 2, out, scratch, &pool);
    if (out != std::vector<std::int32_t>{2, -6, 2, -4}) throw std::runtime_error("a product is wrong");
    plan.run(activations, {2, 1, 2}, qcore::View<std::int32_t>(out.data(), 2), scratch);
    if (out[0] != 2 || out[1] != -4) throw std::runtime_error("a row of it is wrong");
    if (plan.describe().empty()) throw std::runtime_error("a plan does not describe itself");

    // Sums 3 5 3 3 and -3 -5 1 -1, where the pad is 0.
    const std::vector<float> expected{1.5F, 4.0F, 2.5F, -4.0F, 1.5F, 2.0F, 1.5F, 0.0F};
    if (convolved(pool) != expected) throw std::runtime_error("a convolution is wrong");

    try {
      gemm(weights, 2, 40);
      throw std::runtime_error("weights that are too short were taken");
    } catch (const qcore::Error &error) {
      if (error.status() != QC_ERROR_ARGUMENT) throw;
      std::printf("raii: %s\n", error.what());
    }
  } catch (const std::exception &error) {
    std::printf("unexpected: %s\n", error.what());
    return 1;
  }
  return 0;
}
